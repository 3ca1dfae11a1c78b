// Devices: how many, of what kind; and the counters that tests read.
#include "pretend.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

static double setting(const char* name, double otherwise) {
  const char* value = getenv(name);
  return value ? atof(value) : otherwise;
}

static std::atomic<long> counts[NUM_COUNTS];
static std::atomic<double> kernel_time_us{0};
static thread_local int current = 0;

void count(Count what) { counts[what]++; }
double kernel_us() { return kernel_time_us; }
int current_device() { return current; }
int num_devices() {
  static const int num = (int)setting("PRETENDED_DEVICES", 1);
  return num;
}
size_t device_bytes() {
  static const size_t bytes = (size_t)(setting("PRETENDED_GB", 16) * (1ull << 30));
  return bytes;
}

API void pretended_counts(long* out) {
  for (int i = 0; i < NUM_COUNTS; i++) out[i] = counts[i];
}
API void pretended_kernel_us(double us) { kernel_time_us = us; }

API cudaError_t cudaGetDeviceCount(int* n) { *n = num_devices(); return cudaSuccess; }
API cudaError_t cudaGetDevice(int* d) { *d = current; return cudaSuccess; }
API cudaError_t cudaSetDevice(int d) {
  if (d < 0 || d >= num_devices()) return cudaErrorInvalidDevice;
  current = d;
  return cudaSuccess;
}
API cudaError_t cudaDriverGetVersion(int* v) { *v = CUDART_VERSION; return cudaSuccess; }
API cudaError_t cudaRuntimeGetVersion(int* v) { *v = CUDART_VERSION; return cudaSuccess; }

API cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  memset(p, 0, sizeof *p);
  strcpy(p->name, "pretended device");
  p->totalGlobalMem = device_bytes();
  p->major = 9;
  p->multiProcessorCount = 132;
  p->warpSize = 32;
  p->maxThreadsPerBlock = p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->maxThreadsPerMultiProcessor = 2048;
  p->maxBlocksPerMultiProcessor = 32;
  p->maxGridSize[0] = 2147483647;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->regsPerBlock = p->regsPerMultiprocessor = 65536;
  p->sharedMemPerBlock = 49152;
  p->sharedMemPerBlockOptin = 232448;
  p->sharedMemPerMultiprocessor = 233472;
  p->l2CacheSize = 62914560;
  p->totalConstMem = 65536;
  p->textureAlignment = 512;
  p->memoryBusWidth = 6144;
  p->unifiedAddressing = p->canMapHostMemory = p->concurrentKernels = 1;
  return cudaSuccess;
}

API cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *v = 132; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *v = 49152; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *v = 232448; break;
    case cudaDevAttrWarpSize: *v = 32; break;
    case cudaDevAttrComputeCapabilityMajor: *v = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *v = 0; break;
    case cudaDevAttrMaxThreadsPerBlock: *v = 1024; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *v = 2048; break;
    case cudaDevAttrMaxGridDimX: *v = 2147483647; break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ: *v = 65535; break;
    default: *v = 1;
  }
  return cudaSuccess;
}

API cudaError_t cudaDeviceGetStreamPriorityRange(int* low, int* high) { *low = 0; *high = -5; return cudaSuccess; }
API cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { *can = 1; return cudaSuccess; }
API cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
API cudaError_t cudaDeviceGetPCIBusId(char* s, int n, int d) { snprintf(s, n, "0000:%02x:00.0", d); return cudaSuccess; }
API cudaError_t cudaDeviceSynchronize() { count(DEVICE_WAITS); wait_for_all(); return cudaSuccess; }
API cudaError_t cudaGetLastError() { return cudaSuccess; }
API cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
API const char* cudaGetErrorString(cudaError_t) { return "pretended error"; }
API const char* cudaGetErrorName(cudaError_t) { return "cudaErrorPretended"; }
