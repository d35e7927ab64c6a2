// Queries, keys and values of the normalized vector; q and k are turned by position, k and v appended to the caches.

#include "qkv_rows.cuh"
#include "qkv_stream.cuh"
