// A module of its own, opened at run time by make_communicator: one process needs no MPI installed.
#include <algorithm>
#include <array>
#include <csignal>

#include <mpi.h>

#include "runtime/communicator.h"
#include "runtime/error.h"

namespace bert {
namespace {

void check(int status, const char* call) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw_runtime_error("{} failed: {}", call, std::string(text, static_cast<std::size_t>(length)));
}

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return MPI_DOUBLE;
    case DType::f32:
      return MPI_FLOAT;
    case DType::i64:
      return MPI_INT64_T;
    default:
      throw_runtime_error("all_reduce_sum of {} is not supported", dtype_name(dtype));
  }
}

// Open MPI answers the signals of a crash by printing the stack from within the handler. That waits
// for locks of the allocator and the loader, for ever where the crash came inside one: a rank that
// hangs instead of dying, and with it the whole job. So what these signals did before MPI_Init is
// what they do after it, whatever Open MPI is told to catch, and the launcher tells of the death.
class CrashSignals {
 public:
  CrashSignals() {
    for (std::size_t i = 0; i < kSignals.size(); ++i)
      ::sigaction(kSignals[i], nullptr, &before_[i]);
  }
  ~CrashSignals() {
    for (std::size_t i = 0; i < kSignals.size(); ++i)
      ::sigaction(kSignals[i], &before_[i], nullptr);
  }
  CrashSignals(const CrashSignals&) = delete;
  CrashSignals& operator=(const CrashSignals&) = delete;

 private:
  static constexpr std::array<int, 5> kSignals = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV};
  std::array<struct sigaction, kSignals.size()> before_;
};

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator() {
    const CrashSignals as_they_were;
    int provided = 0;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
    MPI_Comm local;
    check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &local),
          "MPI_Comm_split_type");
    check(MPI_Comm_rank(local, &local_rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(local, &local_size_), "MPI_Comm_size");
    check(MPI_Comm_free(&local), "MPI_Comm_free");
  }
  ~MpiCommunicator() override { MPI_Finalize(); }

  std::string name() const override { return "MPI"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }

  void all_reduce_sum(const Tensor& tensor) override {
    // Pieces of 16 MB stay in the transport's fast path: about three times as fast as one call.
    const std::int64_t piece =
        (std::int64_t{16} << 20) / static_cast<std::int64_t>(dtype_size(tensor.dtype()));
    char* data = static_cast<char*>(tensor.raw());
    for (std::int64_t first = 0; first < tensor.numel(); first += piece) {
      const std::int64_t count = std::min(piece, tensor.numel() - first);
      check(MPI_Allreduce(
                MPI_IN_PLACE, data + first * static_cast<std::int64_t>(dtype_size(tensor.dtype())),
                static_cast<int>(count), mpi_type(tensor.dtype()), MPI_SUM, MPI_COMM_WORLD),
            "MPI_Allreduce");
    }
  }
  void all_reduce_max(std::vector<std::int64_t>& values) override {
    check(MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_INT64_T,
                        MPI_MAX, MPI_COMM_WORLD),
          "MPI_Allreduce");
  }
  void broadcast(std::string& bytes, int from) override {
    auto size = static_cast<std::int64_t>(bytes.size());
    check(MPI_Bcast(&size, 1, MPI_INT64_T, from, MPI_COMM_WORLD), "MPI_Bcast");
    bytes.resize(static_cast<std::size_t>(size));
    constexpr std::int64_t kPiece = std::int64_t{1} << 30;  // MPI counts in an int
    for (std::int64_t first = 0; first < size; first += kPiece) {
      check(MPI_Bcast(bytes.data() + first, static_cast<int>(std::min(kPiece, size - first)),
                      MPI_BYTE, from, MPI_COMM_WORLD),
            "MPI_Bcast");
    }
  }
  void barrier() override { check(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier"); }
  [[noreturn]] void abort(int exit_code) override {
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
  }

 private:
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
};

}  // namespace
}  // namespace bert

extern "C" bert::Communicator* bert_make_mpi_communicator() { return new bert::MpiCommunicator(); }
