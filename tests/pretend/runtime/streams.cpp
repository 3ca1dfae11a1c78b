// Streams are threads that do their work in order; events tie them to each other and to the host.
#include "pretend.h"

#include <atomic>
#include <chrono>
#include <cstring>

static double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Stream::Stream() : thread_([this] { run(); }) { thread_.detach(); }

static std::atomic<bool> at_once{false};

// From now on, let a device be as fast as its host: whether the host meets it at work is no chance then.
API void pretended_at_once() { at_once = true; }

void Stream::push(Work work) {
  if (at_once) {
    std::lock_guard<std::mutex> turn(turn_);
    wait();  // for what came before
    perform(work);
    return;
  }
  std::lock_guard<std::mutex> held(mutex_);
  queue_.push_back(std::move(work));
  work_.notify_one();
}

bool Stream::is_idle() {
  std::lock_guard<std::mutex> held(mutex_);
  return queue_.empty() && !busy_;
}

void Stream::wait() {
  std::unique_lock<std::mutex> held(mutex_);
  idle_.wait(held, [&] { return queue_.empty() && !busy_; });
}

void Stream::run() {
  for (;;) {
    Work work;
    {
      std::unique_lock<std::mutex> held(mutex_);
      busy_ = false;
      if (queue_.empty()) idle_.notify_all();
      work_.wait(held, [&] { return !queue_.empty(); });
      work = std::move(queue_.front());
      queue_.pop_front();
      busy_ = true;
    }
    perform(work);
  }
}

void Stream::perform(Work& work) {
  double now = now_us();
  ends_us_ = std::max(ends_us_, now) + work.us;
  if (ends_us_ > now) std::this_thread::sleep_for(std::chrono::duration<double, std::micro>(ends_us_ - now));
  if (work.kind == Work::COPY) memcpy(work.to, work.staged.empty() ? work.from : work.staged.data(), work.bytes);
  if (work.kind == Work::CALL) work.call(work.argument);
  if (work.kind == Work::RECORD) {
    std::lock_guard<std::mutex> held(work.event->mutex);
    work.event->reached = std::max(work.event->reached, work.generation);
    work.event->reached_us = now_us();
    work.event->changed.notify_all();
  }
  if (work.kind == Work::WAIT) {
    std::unique_lock<std::mutex> held(work.event->mutex);
    work.event->changed.wait(held, [&] { return work.event->reached >= work.generation; });
  }
}

// Streams and events are kept for good: a thread may still be at one that its owner has let go.
static std::mutex mutex;
static std::vector<Stream*> made;

static Stream* make_stream() {
  auto* stream = new Stream;
  std::lock_guard<std::mutex> held(mutex);
  made.push_back(stream);
  return stream;
}

Stream* stream_of(cudaStream_t handle) {
  static Stream* own[MAX_DEVICES];
  if ((uintptr_t)handle > 2) return (Stream*)handle;
  static std::mutex making;
  std::lock_guard<std::mutex> held(making);
  Stream*& stream = own[current_device()];
  if (!stream) stream = make_stream();
  return stream;
}

void wait_for_all() {
  std::vector<Stream*> all;
  {
    std::lock_guard<std::mutex> held(mutex);
    all = made;
  }
  for (auto* stream : all) stream->wait();
}

cudaError_t launch(cudaStream_t stream) {
  count(LAUNCHES);
  if (kernel_us() > 0) {
    Work work{Work::KERNEL};
    work.us = kernel_us();
    stream_of(stream)->push(std::move(work));
  }
  return cudaSuccess;
}

API cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned, int) {
  count(STREAMS);
  *s = (cudaStream_t)make_stream();
  return cudaSuccess;
}
API cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned flags) { return cudaStreamCreateWithPriority(s, flags, 0); }
API cudaError_t cudaStreamCreate(cudaStream_t* s) { return cudaStreamCreateWithPriority(s, 0, 0); }
API cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
API cudaError_t cudaStreamGetPriority(cudaStream_t, int* priority) { *priority = 0; return cudaSuccess; }
API cudaError_t cudaStreamQuery(cudaStream_t s) { return stream_of(s)->is_idle() ? cudaSuccess : cudaErrorNotReady; }
API cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  count(STREAM_WAITS);
  stream_of(s)->wait();
  return cudaSuccess;
}
API cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
API cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status, unsigned long long* id,
                                         cudaGraph_t*, const cudaGraphNode_t**, const cudaGraphEdgeData**, size_t* n) {
  *status = cudaStreamCaptureStatusNone;
  if (id) *id = 0;
  if (n) *n = 0;
  return cudaSuccess;
}
API cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
API cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  Work work{Work::WAIT};
  work.event = (Event*)e;
  {
    std::lock_guard<std::mutex> held(work.event->mutex);
    work.generation = work.event->recorded;
    if (work.event->reached >= work.generation) return cudaSuccess;
  }
  stream_of(s)->push(std::move(work));
  return cudaSuccess;
}
API cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t call, void* argument) {
  Work work{Work::CALL};
  work.call = call;
  work.argument = argument;
  stream_of(s)->push(std::move(work));
  return cudaSuccess;
}

API cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) { *e = (cudaEvent_t) new Event; return cudaSuccess; }
API cudaError_t cudaEventCreate(cudaEvent_t* e) { return cudaEventCreateWithFlags(e, 0); }
API cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
API cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  Work work{Work::RECORD};
  work.event = (Event*)e;
  {
    std::lock_guard<std::mutex> held(work.event->mutex);
    work.generation = ++work.event->recorded;
  }
  stream_of(s)->push(std::move(work));
  return cudaSuccess;
}
API cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t s, unsigned) { return cudaEventRecord(e, s); }
API cudaError_t cudaEventQuery(cudaEvent_t e) {
  auto* event = (Event*)e;
  std::lock_guard<std::mutex> held(event->mutex);
  return event->reached >= event->recorded ? cudaSuccess : cudaErrorNotReady;
}
API cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  count(EVENT_WAITS);
  auto* event = (Event*)e;
  std::unique_lock<std::mutex> held(event->mutex);
  const auto wanted = event->recorded;
  event->changed.wait(held, [&] { return event->reached >= wanted; });
  return cudaSuccess;
}
API cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t from, cudaEvent_t to) {
  *ms = (float)((((Event*)to)->reached_us - ((Event*)from)->reached_us) / 1e3);
  return cudaSuccess;
}
