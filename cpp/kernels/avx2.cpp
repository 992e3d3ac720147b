// The kernels for AVX2 and FMA.
#define VARPROP_TABLE kAvx2
#define VARPROP_NAME "avx2"
#include "table.inl"
