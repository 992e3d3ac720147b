// The kernels for every machine of the architecture.
#define VARPROP_TABLE kBaseline
#define VARPROP_NAME "baseline"
#include "table.inl"
