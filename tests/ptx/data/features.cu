// What CUDA C++ can do that forerun's own kernels do not: for the tests of PTX.
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <cuda/barrier>
struct S { int* p; double d; int n; char c[5]; };
struct Node { Node* next; int v; };
__constant__ float table[16] = {1.f,2.f,-0.5f};
__device__ int counter;
__managed__ int managed;
__device__ double dd[2][3] = {{1.5,2.5},{3}};
__device__ const char* name = "he said \"hi\"; }{ // no";
typedef int (*Fn)(int);
__device__ __noinline__ int f1(int x) { return x > 0 ? x * 3 : counter; }
__device__ __noinline__ int f2(int x) { return x - 7; }
__device__ __noinline__ int fact(int n) { return n < 2 ? 1 : n * fact(n - 1); }
__device__ Fn fns[2] = {f1, f2};
extern "C" __global__ void calls(int* y, int k) { y[0] = fns[k](k) + fact(k); if (k == 77) printf("%s %d %f\n", name, k, 1.5); }
extern "C" __global__ void sw(int* y, int k) {
  switch (k) { case 0: y[0]=counter; break; case 1: y[1]=__popc(k*y[3]); break; case 2: y[2]=y[9]/7; break; case 3: y[3]=atomicAdd(y,3); break;
   case 4: y[4]=__shfl_xor_sync(-1,y[5],1); break; case 5: y[6]=atomicCAS(y+1,2,3); break; case 6: asm volatile("trap;"); default: __nanosleep(100); } }
extern "C" __global__ void __launch_bounds__(128,2) strct(S s, const S* __restrict__ t) { s.p[threadIdx.x] = t[threadIdx.x].n + s.n + (int)table[s.c[2]]; t->p[3] = 5; }
extern "C" __global__ void list(Node* n, int* out) { while (n) { atomicAdd(out, n->v); n = n->next; } }
extern "C" __global__ void tex(cudaTextureObject_t t, cudaSurfaceObject_t s, float* y) { y[threadIdx.x] = tex2D<float>(t, 0.5f, threadIdx.x); surf1Dwrite(y[5], s, 4); }
extern "C" __global__ void __cluster_dims__(2,1,1) bar(int* y, const int* __restrict__ x) {
  __shared__ cuda::barrier<cuda::thread_scope_block> b; extern __shared__ int dyn[];
  if (threadIdx.x==0) init(&b, blockDim.x); __syncthreads();
  cuda::memcpy_async(dyn+threadIdx.x, x+threadIdx.x, 4, b); b.arrive_and_wait();
  volatile int* v = y; v[0] = dyn[threadIdx.x^1]; double q = dd[y[1]][1]; y[2] = q * 1e300;
  asm volatile("{ .reg .pred p; .reg .b64 t; setp.ne.b32 p, %1, 0; @p bra DONE; mov.u64 t, %0; st.global.u32 [t+4], 1; DONE: }" :: "l"(y), "r"(y[3]));
  asm volatile("{ .reg .pred p; W: setp.ne.b32 p, %0, 0; @!p bra W; }" :: "r"(y[4]) : "memory");
  __threadfence(); *(int*)((unsigned long long)y ^ 8) = 3; y[9] = (int)__mul64hi(y[1],y[2]); y[10] = __vadd2(y[1],y[2]); y[11] = __dp4a(y[1],y[2],y[3]); y[12]=__funnelshift_l(y[1],y[2],y[3]); y[13]=__brev(y[1])+__clz(y[2])+__ffs(y[3]); }
extern "C" __global__ void alloc_k(int n, int** out) { int* p = (int*)malloc(n); out[0] = p; p[0] = 3; int a[64]; for (int i=0;i<n;i++) a[i&63]=out[i][0]; out[1]=out[a[n&63]]; float h = __half2float(__float2half(a[3])); out[2]=out[(int)h]; }
struct __align__(64) TM { unsigned long long o[16]; };
extern "C" __global__ void tma(const __grid_constant__ TM m, int* y) { __shared__ __align__(128) int t[256]; __shared__ unsigned long long mb;
  unsigned s = (unsigned)__cvta_generic_to_shared(t), b = (unsigned)__cvta_generic_to_shared(&mb);
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" :: "r"(s), "l"(&m), "r"(0), "r"(1), "r"(b) : "memory");
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" :: "l"(&m), "r"(0), "r"(1), "r"(s) : "memory");
  y[threadIdx.x] = t[threadIdx.x]; }
