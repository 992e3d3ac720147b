// The kernels for AVX-512 F, BW, DQ and VL.
#define VARPROP_TABLE kAvx512
#define VARPROP_NAME "avx512"
#include "table.inl"
