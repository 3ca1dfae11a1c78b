// Memory of devices and pinned memory of the host, and the copies between them.
#include "pretend.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>

struct Block { size_t bytes; int device; };
using Blocks = std::map<uintptr_t, Block>;

static std::mutex mutex;
static Blocks on_devices, pinned;
static size_t used[MAX_DEVICES];
constexpr size_t STAGED_BYTES = 65536;  // CUDA copies so much pageable memory aside and lets the host go on

static const Block* holding(const Blocks& blocks, const void* p) {
  auto after = blocks.upper_bound((uintptr_t)p);
  if (after == blocks.begin()) return nullptr;
  auto found = std::prev(after);
  return (uintptr_t)p < found->first + found->second.bytes ? &found->second : nullptr;
}

static bool is_pinned(const void* p) {
  std::lock_guard<std::mutex> held(mutex);
  return holding(pinned, p) != nullptr;
}

API cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  std::lock_guard<std::mutex> held(mutex);
  *total = device_bytes();
  *free = *total - used[current_device()];
  return cudaSuccess;
}

API cudaError_t cudaMalloc(void** p, size_t bytes) {
  std::lock_guard<std::mutex> held(mutex);
  size_t& taken = used[current_device()];
  *p = nullptr;
  if (taken + bytes > device_bytes()) return cudaErrorMemoryAllocation;
  void* made = mmap(nullptr, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (made == MAP_FAILED) return cudaErrorMemoryAllocation;
  on_devices[(uintptr_t)made] = {bytes, current_device()};
  taken += bytes;
  *p = made;
  return cudaSuccess;
}

API cudaError_t cudaFree(void* p) {
  wait_for_all();
  std::lock_guard<std::mutex> held(mutex);
  auto found = on_devices.find((uintptr_t)p);
  if (found == on_devices.end()) return cudaSuccess;
  munmap(p, found->second.bytes);
  used[found->second.device] -= found->second.bytes;
  on_devices.erase(found);
  return cudaSuccess;
}

API cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned) {
  *p = aligned_alloc(4096, (bytes + 4095) & ~4095ull);
  std::lock_guard<std::mutex> held(mutex);
  pinned[(uintptr_t)*p] = {bytes, 0};
  count(PINNED_BLOCKS);
  return cudaSuccess;
}

API cudaError_t cudaFreeHost(void* p) {
  std::lock_guard<std::mutex> held(mutex);
  pinned.erase((uintptr_t)p);
  free(p);
  return cudaSuccess;
}

API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
  std::lock_guard<std::mutex> held(mutex);
  memset(a, 0, sizeof *a);
  const Block* block = holding(on_devices, p);
  a->type = block ? cudaMemoryTypeDevice : holding(pinned, p) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
  a->device = block ? block->device : 0;
  return cudaSuccess;
}

// As CUDA documents it: what is pageable is staged, or waited for; what is pinned is read when the device comes to it.
static cudaError_t copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t handle) {
  count(kind == cudaMemcpyHostToDevice ? TO_DEVICE : kind == cudaMemcpyDeviceToHost ? TO_HOST : ON_DEVICE);
  Stream* stream = stream_of(handle);
  Work work{Work::COPY};
  work.to = to;
  work.from = from;
  work.bytes = bytes;
  bool waits = false;
  if (kind == cudaMemcpyHostToDevice && !is_pinned(from)) {
    if (bytes <= STAGED_BYTES) {
      work.staged.assign((const char*)from, (const char*)from + bytes);
    } else {
      count(PAGEABLE_WAITS);
      waits = true;
    }
  }
  if (kind == cudaMemcpyDeviceToHost && !is_pinned(to)) waits = true;
  stream->push(std::move(work));
  if (waits) stream->wait();
  return cudaSuccess;
}

API cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy(to, from, n, kind, stream);
}
API cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t n, cudaStream_t stream) {
  return copy(to, from, n, cudaMemcpyDeviceToDevice, stream);
}
API cudaError_t cudaMemcpy(void* to, const void* from, size_t n, cudaMemcpyKind kind) {
  copy(to, from, n, kind, nullptr);
  count(STREAM_WAITS);
  stream_of(nullptr)->wait();
  return cudaSuccess;
}
API cudaError_t cudaMemset(void*, int, size_t) { return launch(nullptr); }
API cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t stream) { return launch(stream); }
