// A CUDA runtime that computes nothing. Streams, events, memory and copies are real; kernels only take time.
#pragma once
#include <cuda_runtime_api.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

constexpr int MAX_DEVICES = 8;

// What is counted, in the order in which pretended.py names it.
enum Count {
  LAUNCHES,      // kernels, memsets, calls of cuBLAS and cuDNN
  TO_DEVICE,     // copies from the host
  TO_HOST,       // copies to the host
  ON_DEVICE,     // copies between devices, or inside one
  STREAM_WAITS,  // the host waits for a stream
  EVENT_WAITS,   // the host waits for an event
  DEVICE_WAITS,  // the host waits for everything
  PAGEABLE_WAITS,  // a copy from memory that is not pinned, too large to be staged: the host waits for the stream
  PINNED_BLOCKS,   // blocks of pinned memory made
  STREAMS,         // streams made
  NUM_COUNTS
};
void count(Count what);

double kernel_us();           // device time of a kernel
int current_device();         // of this thread
size_t device_bytes();        // memory of a device
int num_devices();

struct Event {
  std::mutex mutex;
  std::condition_variable changed;
  unsigned long recorded = 0;  // how often a record was queued
  unsigned long reached = 0;   // the latest that the device has come to
  double reached_us = 0;
};

// A piece of device work. A stream does its pieces one after the other.
struct Work {
  enum Kind { KERNEL, COPY, RECORD, WAIT, CALL } kind;
  double us = 0;
  void* to = nullptr;
  const void* from = nullptr;
  size_t bytes = 0;
  std::vector<char> staged;  // a copy's bytes, where the host's memory may change before the device comes to it
  Event* event = nullptr;
  unsigned long generation = 0;
  cudaHostFn_t call = nullptr;
  void* argument = nullptr;
};

class Stream {
 public:
  Stream();
  void push(Work work);
  bool is_idle();
  void wait();

 private:
  void run();
  void perform(Work& work);

  std::mutex turn_;  // of who does the work at once
  std::mutex mutex_;
  std::condition_variable work_, idle_;
  std::deque<Work> queue_;
  bool busy_ = false;
  double ends_us_ = 0;  // when the device is done with what it has begun
  std::thread thread_;
};

Stream* stream_of(cudaStream_t handle);  // 0, 1 and 2 are the current device's own
void wait_for_all();
cudaError_t launch(cudaStream_t stream);
