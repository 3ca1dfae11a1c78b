// libcuda.so.1, the driver, for who looks it up: a primary context is there, nothing can be launched through it.
#include <cstdlib>

#define API extern "C" __attribute__((visibility("default")))
#define NOTHING(name) API int name(...) { return 0; }

API int cuDriverGetVersion(int* v) { *v = 13000; return 0; }
API int cuDeviceGetCount(int* n) {
  const char* given = getenv("PRETENDED_DEVICES");
  *n = given ? atoi(given) : 1;
  return 0;
}
API int cuDeviceGet(int* d, int n) { *d = n; return 0; }
API int cuDeviceGetAttribute(int* v, int, int) { *v = 1; return 0; }
API int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) { *flags = 0; *active = 1; return 0; }
API int cuDevicePrimaryCtxRetain(void** context, int) { *context = (void*)64; return 0; }
API int cuCtxGetCurrent(void** context) { *context = (void*)64; return 0; }
API int cuGetErrorString(int, const char** s) { *s = "pretended"; return 0; }
API int cuPointerGetAttribute(void* v, int, unsigned long long) { *(int*)v = 0; return 0; }
NOTHING(cuInit)
NOTHING(cuCtxSetCurrent)
NOTHING(cuFuncGetAttribute)
NOTHING(cuFuncSetAttribute)
NOTHING(cuFuncSetCacheConfig)
NOTHING(cuLaunchCooperativeKernel)
NOTHING(cuLaunchKernel)
NOTHING(cuLinkAddData_v2)
NOTHING(cuLinkComplete)
NOTHING(cuLinkCreate_v2)
NOTHING(cuModuleGetFunction)
NOTHING(cuModuleLoad)
NOTHING(cuModuleLoadData)
NOTHING(cuModuleLoadDataEx)
NOTHING(cuModuleUnload)
NOTHING(cuOccupancyMaxActiveBlocksPerMultiprocessor)
NOTHING(cuTensorMapEncodeTiled)
