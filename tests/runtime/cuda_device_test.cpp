// CudaDevice and the all-reduce by NCCL on stand-ins for both libraries: what waits for what, what
// is recorded and repeated, and what becomes of errors.
#include <numeric>
#include <optional>

#include <dlfcn.h>
#include <gtest/gtest.h>

#include "runtime/bfloat16.h"
#include "runtime/device_cuda.h"
#include "runtime/error.h"
#include "runtime/nccl_all_reducer.h"
#include "tests/runtime/fake_nccl.h"
#include "tests/support/one_rank.h"

namespace bert::test {
namespace {

template <typename F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const RuntimeError& error) {
    return error.what();
  }
  return "";
}

class CudaDeviceTest : public testing::Test {
 protected:
  CudaDeviceTest() {
    fake_cuda() = {};
    device_.emplace(0);
  }
  ~CudaDeviceTest() override {
    device_.reset();
    EXPECT_EQ(fake_cuda().live_graphs, 0);
    EXPECT_FALSE(fake_cuda().hung);
  }

  // `count` numbers of device memory.
  struct Numbers {
    Numbers(CudaDevice& device, std::size_t count) : memory(device, count * sizeof(float)) {}
    float* data() const { return static_cast<float*>(memory.data()); }
    DeviceBuffer memory;
  };
  std::vector<float> read(const Numbers& numbers) {
    std::vector<float> values(numbers.memory.bytes() / sizeof(float));
    device_->copy_to_host(values.data(), numbers.data(), numbers.memory.bytes());
    return values;
  }
  void write(const Numbers& numbers, const std::vector<float>& values) {
    device_->copy_from_host(numbers.data(), values.data(), values.size() * sizeof(float));
  }
  // A kernel: adds to one number.
  void add(const Numbers& numbers, float value) {
    queue_on(device_->stream(), [data = numbers.data(), value] { *data += value; });
  }

  std::optional<CudaDevice> device_;
};

// Far more than the staging memory, whose parts are used again and again.
TEST_F(CudaDeviceTest, UploadsArriveWholeAndInOrder) {
  const std::size_t count = (std::size_t{10} << 20) / sizeof(float) + 77;
  const Numbers a(*device_, count), b(*device_, count);
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 1.0f);
  const std::vector<float> first = values;
  write(a, values);
  std::fill(values.begin(), values.end(), -1.0f);  // the host's memory is free at once
  write(b, values);
  device_->copy(b.data(), a.data(), 100 * sizeof(float));
  EXPECT_EQ(read(a), first);
  const std::vector<float> second = read(b);
  EXPECT_EQ(second[99], 100.0f);
  EXPECT_EQ(second[100], -1.0f);
  EXPECT_EQ(second.back(), -1.0f);
}

TEST_F(CudaDeviceTest, ReadsLaterWhatWasThereWhenItWasAsked) {
  const Numbers a(*device_, 1);
  device_->fill_zero(a.data(), sizeof(float));
  add(a, 1.0f);
  const auto one = device_->read_later(a.data(), sizeof(float));
  add(a, 1.0f);
  auto two = device_->read_later(a.data(), sizeof(float));
  add(a, 1.0f);
  EXPECT_EQ(*static_cast<const float*>(two->wait()), 2.0f);
  EXPECT_EQ(*static_cast<const float*>(one->wait()), 1.0f);
  two.reset();  // its memory is used again
  const auto three = device_->read_later(a.data(), sizeof(float));
  EXPECT_EQ(*static_cast<const float*>(three->wait()), 3.0f);
  EXPECT_EQ(*static_cast<const float*>(one->wait()), 1.0f);
}

TEST_F(CudaDeviceTest, RepeatsWhatItRecorded) {
  const Numbers a(*device_, 1), b(*device_, 1);
  int calls = 0;
  const auto work = [&] {
    ++calls;
    add(a, 1.0f);
    device_->copy(b.data(), a.data(), sizeof(float));
  };
  for (int i = 0; i < 3; ++i) {
    write(a, {10.0f * static_cast<float>(i)});
    device_->run_recorded(1, work);
    EXPECT_EQ(read(b)[0], 10.0f * static_cast<float>(i) + 1.0f);
  }
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(fake_cuda().graph_launches, 3);
  device_->run_recorded(2, [&] { add(a, 5.0f); });  // another key, another recording
  EXPECT_EQ(read(a)[0], 26.0f);
}

// What cannot be recorded happens each time, between what was queued before and after it.
TEST_F(CudaDeviceTest, CallsBetweenThePartsOfARecording) {
  const Numbers a(*device_, 1), b(*device_, 1);
  int calls = 0;
  std::vector<float> seen;
  const auto work = [&] {
    ++calls;
    add(a, 1.0f);
    device_->run_unrecorded([this, &a, &seen] { seen.push_back(read(a)[0]); });
    add(a, 1.0f);
    device_->run_unrecorded([this, &b] { write(b, {7.0f}); });
    device_->copy(a.data(), b.data(), sizeof(float));
  };
  write(a, {0.0f});
  work();  // outside of a recording: called at once
  EXPECT_EQ(read(a)[0], 7.0f);
  for (int i = 1; i <= 3; ++i) {
    write(a, {10.0f * static_cast<float>(i)});
    write(b, {0.0f});
    device_->run_recorded(1, work);
    EXPECT_EQ(read(a)[0], 7.0f);
  }
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(seen, (std::vector<float>{1.0f, 11.0f, 21.0f, 31.0f}));
  EXPECT_EQ(fake_cuda().graph_launches, 9);
}

TEST_F(CudaDeviceTest, AFailedRecordingIsNone) {
  const Numbers a(*device_, 1);
  write(a, {0.0f});
  for (const bool between : {false, true}) {
    EXPECT_THROW(device_->run_recorded(1,
                                       [&] {
                                         add(a, 1.0f);
                                         const auto fail = [] { throw_runtime_error("no"); };
                                         if (between) device_->run_unrecorded(fail);
                                         fail();
                                       }),
                 RuntimeError);
  }
  // Of the second the part before the failure was queued.
  EXPECT_EQ(read(a)[0], 1.0f);
  device_->run_recorded(1, [&] { add(a, 10.0f); });
  EXPECT_EQ(read(a)[0], 11.0f);
}

TEST_F(CudaDeviceTest, WhatIsFreedIsInNoRecording) {
  const Numbers a(*device_, 1);
  write(a, {0.0f});
  int calls = 0;
  const auto work = [&] { ++calls, add(a, 1.0f); };
  device_->run_recorded(1, work);
  { const Numbers other(*device_, 5); }
  device_->run_recorded(1, work);
  EXPECT_EQ(calls, 2);
  // Even of what is being repeated.
  device_->run_recorded(2, [&] {
    add(a, 1.0f);
    device_->run_unrecorded([this] { const Numbers other(*device_, 5); });
    add(a, 1.0f);
  });
  device_->run_recorded(2, [] {});
  EXPECT_EQ(read(a)[0], 6.0f);
}

TEST_F(CudaDeviceTest, CopiesAcrossTheBusAreNotRecorded) {
  const Numbers a(*device_, 1);
  float value = 0.0f;
  for (const std::function<void()>& copy : std::vector<std::function<void()>>{
           [&] { device_->copy_from_host(a.data(), &value, sizeof value); },
           [&] { device_->copy_to_host(&value, a.data(), sizeof value); },
           [&] { (void)device_->read_later(a.data(), sizeof value); }}) {
    EXPECT_THROW(device_->run_recorded(1, copy), std::exception);
  }
}

TEST_F(CudaDeviceTest, KnowsWhatIsFree) {
  const std::size_t before = device_->memory_available();
  const DeviceBuffer taken(*device_, 10 << 20);
  EXPECT_EQ(device_->memory_available(), before - (10 << 20));
}

TEST_F(CudaDeviceTest, MemoryThatIsNotThereIsAnError) {
  fake_cuda().memory = 100 << 20;
  const std::string message = message_of([&] { (void)device_->allocate(200 << 20); });
  EXPECT_NE(message.find("out of memory on GPU 0: 209715200 bytes asked for"), std::string::npos)
      << message;
}

TEST_F(CudaDeviceTest, IsWatchedWhileItIsWaitedFor) {
  const Numbers a(*device_, 1);
  write(a, {0.0f});
  int asked = 0;
  device_->watch([&] {
    if (++asked == 50) throw_runtime_error("given up");
  });
  for (int i = 0; i < 20; ++i) add(a, 1.0f);
  EXPECT_EQ(read(a)[0], 20.0f);  // the GPU is slow, but moves
  EXPECT_GT(asked, 10);
  EXPECT_LT(asked, 50);
  add(a, 1.0f);
  const auto later = device_->read_later(a.data(), sizeof(float));
  fake_cuda().stuck = true;
  EXPECT_EQ(message_of([&] { (void)later->wait(); }), "given up");
  EXPECT_EQ(asked, 50);
  asked = 49;
  EXPECT_EQ(message_of([&] { device_->synchronize(); }), "given up");
  asked = 49;
  float value = 0.0f;  // not pinned: the copy itself would wait for ever
  EXPECT_EQ(message_of([&] { device_->copy_to_host(&value, a.data(), sizeof value); }), "given up");
  EXPECT_FALSE(fake_cuda().hung);
  device_->watch({});
  fake_cuda().stuck = false;
  EXPECT_EQ(*static_cast<const float*>(later->wait()), 21.0f);
}

TEST_F(CudaDeviceTest, TheLackOfAGpuIsNoError) {
  std::string why_not;
  EXPECT_EQ(count_cuda_devices(why_not), 1);
  fake_cuda().gpus = 0;
  EXPECT_EQ(count_cuda_devices(why_not), 0);
  EXPECT_NE(why_not.find("CUDA finds no GPU"), std::string::npos) << why_not;
}

// --- NCCL ----------------------------------------------------------------------------------------
void narrow(const float* from, void* to, std::int64_t count, cudaStream_t stream) {
  queue_on(stream, [=] {
    for (std::int64_t i = 0; i < count; ++i) static_cast<Bfloat16*>(to)[i] = Bfloat16(from[i]);
  });
}
void widen(const void* from, float* to, std::int64_t count, cudaStream_t stream) {
  queue_on(stream, [=] {
    for (std::int64_t i = 0; i < count; ++i) {
      to[i] = static_cast<float>(static_cast<const Bfloat16*>(from)[i]);
    }
  });
}

class NcclTest : public CudaDeviceTest {
 protected:
  void SetUp() override {
    void* const library = ::dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << ::dlerror();
    const auto state = reinterpret_cast<FakeNccl* (*)()>(::dlsym(library, "fake_nccl"));
    ASSERT_NE(state, nullptr) << "this is the real NCCL";
    nccl_ = state();
    *nccl_ = {};
  }
  std::unique_ptr<AllReducer> reducer(DType dtype) {
    return make_nccl_all_reducer(*device_, communicator_, dtype, {narrow, widen});
  }
  static Tensor piece(const Numbers& numbers, std::int64_t first, std::int64_t count) {
    return Tensor(numbers.data() + first, DType::f32, {count});
  }

  OneRank communicator_;
  FakeNccl* nccl_ = nullptr;
};

// Pieces are summed after what was queued before them, whatever is queued behind them, and what is
// queued after finish() sees the sums.
TEST_F(NcclTest, SumsPiecesBesideOtherWork) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto sums = reducer(dtype);
    EXPECT_EQ(sums->name(), dtype == DType::f32 ? "NCCL 2.28.9, f32" : "NCCL 2.28.9, bf16");
    nccl_->bytes = 0;
    const Numbers a(*device_, 40), copy(*device_, 40), other(*device_, 1);
    for (int step = 1; step <= 3; ++step) {
      write(a, std::vector<float>(40, 1.0f));
      write(other, {0.0f});
      const auto work = [&] {
        add(a, 0.25f);
        device_->run_unrecorded([&sums, part = piece(a, 0, 8)] { sums->start(part); });
        add(other, 1.0f);
        queue_on(device_->stream(), [data = a.data()] { data[8] += 2.0f; });
        // A larger one: memory for its narrow copy grows.
        device_->run_unrecorded([&sums, part = piece(a, 8, 32)] { sums->start(part); });
        add(other, 1.0f);
      };
      if (step == 1) {
        work();
      } else {
        device_->run_recorded(1, work);
      }
      sums->finish();
      device_->copy(copy.data(), a.data(), 40 * sizeof(float));
      const std::vector<float> found = read(copy);
      EXPECT_EQ(found[0], 2.5f);
      EXPECT_EQ(found[1], 2.0f);
      EXPECT_EQ(found[8], 6.0f);
      EXPECT_EQ(found[39], 2.0f);
      EXPECT_EQ(read(other)[0], 2.0f);
    }
    EXPECT_EQ(nccl_->bytes, 3u * 40 * dtype_size(dtype));
  }
  EXPECT_EQ(nccl_->destroyed, 2);
  EXPECT_EQ(nccl_->aborted, 0);
}

TEST_F(NcclTest, SumsIntegers) {
  const auto sums = reducer(DType::i64);
  EXPECT_EQ(sums->name(), "NCCL 2.28.9, i64");
  nccl_->bytes = 0;
  const DeviceBuffer memory(*device_, 2 * sizeof(std::int64_t));
  // More than a double holds.
  const std::int64_t values[2] = {(std::int64_t{1} << 60) + 1, -3};
  device_->copy_from_host(memory.data(), values, sizeof values);
  sums->start(Tensor(memory.data(), DType::i64, {2}));
  sums->finish();
  std::int64_t found[2];
  device_->copy_to_host(found, memory.data(), sizeof found);
  EXPECT_EQ(found[0], (std::int64_t{1} << 61) + 2);
  EXPECT_EQ(found[1], -6);
  EXPECT_EQ(nccl_->bytes, sizeof values);
}

// Losses travel beside gradients as they are, whatever those travel as.
TEST_F(NcclTest, SumsDoubles) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::i64}) {
    const auto sums = reducer(dtype);
    const DeviceBuffer memory(*device_, sizeof(double));
    const double value = 1.0 + 0x1p-50;
    device_->copy_from_host(memory.data(), &value, sizeof value);
    sums->start(Tensor(memory.data(), DType::f64, {1}));
    sums->finish();
    double found = 0.0;
    device_->copy_to_host(&found, memory.data(), sizeof found);
    EXPECT_EQ(found, 2.0 * value);
  }
}

constexpr const char* kLost =
    "an earlier collective of NCCL failed on rank 0, GPU 0: remote process exited or there was a "
    "network error: connection closed by peer";

TEST_F(NcclTest, ALostRankIsAnErrorAtTheNextPiece) {
  const Numbers a(*device_, 8);
  auto sums = reducer(DType::f32);
  nccl_->calls_until_lost = 1;
  sums->start(piece(a, 0, 8));
  EXPECT_EQ(message_of([&] { sums->start(piece(a, 0, 8)); }), kLost);
  sums.reset();  // what is pending will never be complete
  EXPECT_EQ(nccl_->aborted, 1);
  EXPECT_EQ(nccl_->destroyed, 0);
}

TEST_F(NcclTest, ALostRankIsAnErrorForWhoWaits) {
  const Numbers a(*device_, 8);
  auto sums = reducer(DType::f32);
  sums->start(piece(a, 0, 8));
  sums->finish();
  const auto later = device_->read_later(a.data(), sizeof(float));
  fake_cuda().stuck = true;
  nccl_->calls_until_lost = 3;
  EXPECT_EQ(message_of([&] { (void)later->wait(); }), kLost);
  sums.reset();
  EXPECT_EQ(nccl_->aborted, 1);
  fake_cuda().stuck = false;
  nccl_->calls_until_lost = 0;
  device_->synchronize();  // nobody asks any more
}

TEST_F(NcclTest, AFailureElsewhereGivesUpWhatIsUnderWay) {
  const Numbers a(*device_, 8);
  try {
    const auto sums = reducer(DType::f32);
    sums->start(piece(a, 0, 8));
    sums->finish();
    throw_runtime_error("elsewhere");
  } catch (const RuntimeError&) {
  }
  EXPECT_EQ(nccl_->aborted, 1);
  EXPECT_EQ(nccl_->destroyed, 0);
}

}  // namespace
}  // namespace bert::test
