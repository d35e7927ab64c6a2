// What benchmarks/device_updatable.py replays and updates. NVRTC declares the device runtime's functions.

// Each node of the graph; its number is its second parameter, 8 bytes behind the first.
extern "C" __global__ void add(unsigned* y, unsigned number) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = y[i] * 3 + number;
}

// Gives a number to each of some nodes, a thread a node, and counts what is refused.
extern "C" __global__ void set_each(cudaGraphDeviceNode_t* nodes, unsigned count, unsigned first, unsigned* refused) {
  const unsigned i = threadIdx.x;
  if (i >= count) return;
  const unsigned number = first + i;
  if (cudaGraphKernelNodeSetParam(nodes[i], 8, &number, sizeof number)) atomicAdd(refused, 1);
}

// The same with one call for all nodes.
extern "C" __global__ void set_all(cudaGraphDeviceNode_t* nodes, unsigned count, unsigned first, unsigned* refused) {
  // An update has no default constructor, so shared memory holds its bytes.
  __shared__ alignas(16) unsigned char bytes[128 * sizeof(cudaGraphKernelNodeUpdate)];
  __shared__ unsigned numbers[128];
  auto* updates = reinterpret_cast<cudaGraphKernelNodeUpdate*>(bytes);
  const unsigned i = threadIdx.x;
  if (i < count) {
    numbers[i] = first + i;
    updates[i].node = nodes[i];
    updates[i].field = cudaGraphKernelNodeFieldParam;
    updates[i].updateData.param.pValue = &numbers[i];
    updates[i].updateData.param.offset = 8;
    updates[i].updateData.param.size = sizeof numbers[i];
  }
  __syncthreads();
  if (i == 0 && cudaGraphKernelNodeUpdatesApply(updates, count)) atomicAdd(refused, 1);
}
