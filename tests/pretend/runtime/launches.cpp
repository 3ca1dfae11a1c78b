// Kernels: launched, counted, timed, never computed. So are the calls of cuBLAS and cuDNN that torch makes.
#include "pretend.h"

#include <cstdlib>
#include <cstring>

struct Configuration { dim3 grid, block; size_t shared; cudaStream_t stream; };
static thread_local std::vector<Configuration> configurations;

API unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  configurations.push_back({grid, block, shared, stream});
  return 0;
}
API cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  const auto last = configurations.back();
  configurations.pop_back();
  *grid = last.grid;
  *block = last.block;
  *shared = last.shared;
  *(cudaStream_t*)stream = last.stream;
  return cudaSuccess;
}
API cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* f) { *kernel = (cudaKernel_t)f; return cudaSuccess; }
API cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t s) { return launch(s); }
API cudaError_t __cudaLaunchKernel_ptsz(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t s) { return launch(s); }
API cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t s) { return launch(s); }
API cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* c, const void*, void**) { return launch(c->stream); }
API cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* a, const void*) {
  memset(a, 0, sizeof *a);
  a->maxThreadsPerBlock = 1024;
  a->numRegs = 32;
  a->ptxVersion = a->binaryVersion = 90;
  a->maxDynamicSharedSizeBytes = 232448;
  return cudaSuccess;
}
API cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
API cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t, cudaFuncAttribute, int, int) { return cudaSuccess; }
API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* n, const void*, int, size_t) { *n = 4; return cudaSuccess; }
API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* n, const void*, int, size_t, unsigned) {
  *n = 4;
  return cudaSuccess;
}
API cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** f, unsigned, unsigned long long,
                                                 cudaDriverEntryPointQueryResult* result) {
  *f = nullptr;
  if (result) *result = cudaDriverEntryPointSymbolNotFound;
  return cudaErrorNotSupported;
}

// A handle of either library knows its stream. Arguments beyond those that are read are left on the stack.
struct Handle { cudaStream_t stream; };
#define MAKES(name) API int name(void** p, ...) { *p = calloc(1, 512); return 0; }
#define NOTHING(name) API int name(...) { return 0; }
#define LAUNCHES_ONE(name) API int name(Handle* h, ...) { launch(h->stream); return 0; }
#define NO_BYTES(name, arguments) API int name arguments { *bytes = 0; return 0; }

MAKES(cublasCreate_v2)
API int cublasDestroy_v2(void* h) { free(h); return 0; }
API int cublasSetStream_v2(Handle* h, cudaStream_t s) { h->stream = s; return 0; }
API int cublasGetMathMode(void*, int* mode) { *mode = 0; return 0; }
API int cublasGetPointerMode_v2(void*, int* mode) { *mode = 0; return 0; }
NOTHING(cublasSetWorkspace_v2)
NOTHING(cublasSetMathMode)
NOTHING(cublasSetPointerMode_v2)
NOTHING(cublasSetSmCountTarget)
LAUNCHES_ONE(cublasSgemm_v2)
LAUNCHES_ONE(cublasDgemm_v2)
LAUNCHES_ONE(cublasGemmEx)
LAUNCHES_ONE(cublasSgemmEx)
LAUNCHES_ONE(cublasGemmStridedBatchedEx)
LAUNCHES_ONE(cublasSgemmStridedBatched)
LAUNCHES_ONE(cublasDgemmStridedBatched)
LAUNCHES_ONE(cublasSgemv_v2)
LAUNCHES_ONE(cublasDgemv_v2)
LAUNCHES_ONE(cublasSdot_v2)
LAUNCHES_ONE(cublasDdot_v2)
LAUNCHES_ONE(cublasDotEx)

MAKES(cublasLtMatmulDescCreate)
MAKES(cublasLtMatmulPreferenceCreate)
MAKES(cublasLtMatrixLayoutCreate)
NOTHING(cublasLtMatmulDescDestroy)
NOTHING(cublasLtMatmulDescSetAttribute)
NOTHING(cublasLtMatmulPreferenceDestroy)
NOTHING(cublasLtMatmulPreferenceSetAttribute)
NOTHING(cublasLtMatrixLayoutDestroy)
NOTHING(cublasLtMatrixLayoutSetAttribute)
API size_t cublasLtGetVersion() { return 130100; }
API int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, void* found, int* n) {
  memset(found, 0, 64);
  *n = 1;
  return 0;
}
API int cublasLtMatmul(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*,
                       void*, void*, void*, const void*, void*, size_t, cudaStream_t stream) {
  launch(stream);
  return 0;
}

// cuDNN's calls from before its graphs (TORCH_CUDNN_V8_API_DISABLED=1): one call, one launch.
struct Algorithm { int algorithm, status; float ms; size_t bytes; int is_deterministic, math; int reserved[3]; };
static int one_algorithm(int* n, Algorithm* found) {
  memset(found, 0, sizeof *found);
  found->algorithm = found->is_deterministic = *n = 1;
  return 0;
}
MAKES(cudnnCreate)
MAKES(cudnnCreateTensorDescriptor)
MAKES(cudnnCreateFilterDescriptor)
MAKES(cudnnCreateConvolutionDescriptor)
MAKES(cudnnCreateActivationDescriptor)
MAKES(cudnnCreatePoolingDescriptor)
MAKES(cudnnCreateDropoutDescriptor)
API int cudnnSetStream(Handle* h, cudaStream_t s) { h->stream = s; return 0; }
API int cudnnGetStream(Handle* h, cudaStream_t* s) { *s = h->stream; return 0; }
NOTHING(cudnnDestroyTensorDescriptor)
NOTHING(cudnnDestroyFilterDescriptor)
NOTHING(cudnnDestroyConvolutionDescriptor)
NOTHING(cudnnDestroyActivationDescriptor)
NOTHING(cudnnSetTensorNdDescriptor)
NOTHING(cudnnSetFilterNdDescriptor)
NOTHING(cudnnSetConvolutionNdDescriptor)
NOTHING(cudnnSetConvolutionGroupCount)
NOTHING(cudnnSetConvolutionMathType)
NOTHING(cudnnSetActivationDescriptor)
API int cudnnGetConvolutionForwardAlgorithm_v7(void*, void*, void*, void*, void*, int, int* n, Algorithm* found) {
  return one_algorithm(n, found);
}
API int cudnnGetConvolutionBackwardDataAlgorithm_v7(void*, void*, void*, void*, void*, int, int* n, Algorithm* found) {
  return one_algorithm(n, found);
}
API int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void*, void*, void*, void*, void*, int, int* n, Algorithm* found) {
  return one_algorithm(n, found);
}
NO_BYTES(cudnnGetConvolutionForwardWorkspaceSize, (void*, void*, void*, void*, void*, int, size_t* bytes))
NO_BYTES(cudnnGetConvolutionBackwardDataWorkspaceSize, (void*, void*, void*, void*, void*, int, size_t* bytes))
NO_BYTES(cudnnGetConvolutionBackwardFilterWorkspaceSize, (void*, void*, void*, void*, void*, int, size_t* bytes))
NO_BYTES(cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize,
         (void*, int, int, void*, void*, void*, void*, void*, size_t* bytes))
NO_BYTES(cudnnGetBatchNormalizationBackwardExWorkspaceSize,
         (void*, int, int, void*, void*, void*, void*, void*, void*, void*, size_t* bytes))
NO_BYTES(cudnnGetBatchNormalizationTrainingExReserveSpaceSize, (void*, int, int, void*, void*, size_t* bytes))
LAUNCHES_ONE(cudnnConvolutionForward)
LAUNCHES_ONE(cudnnConvolutionBackwardData)
LAUNCHES_ONE(cudnnConvolutionBackwardFilter)
LAUNCHES_ONE(cudnnBatchNormalizationForwardTrainingEx)
LAUNCHES_ONE(cudnnBatchNormalizationForwardInference)
LAUNCHES_ONE(cudnnBatchNormalizationBackwardEx)
