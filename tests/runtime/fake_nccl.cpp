// A libnccl.so.2 for tests of runtime/nccl_all_reducer.cpp: the other ranks have what this one
// has, so a sum is a multiple. Its work is queued on the stand-in for CUDA of the program that
// loads it.
#include "tests/runtime/fake_nccl.h"

#include <cstdint>
#include <cstring>

#include <nccl.h>

#include "runtime/bfloat16.h"

struct ncclComm {
  int size = 0;
};

namespace {

FakeNccl state;

struct Sum {
  void* values;
  std::size_t count;
  ncclDataType_t type;
  int ranks;
};

void add_up(void* argument) {
  const auto* const sum = static_cast<const Sum*>(argument);
  for (std::size_t i = 0; i < sum->count; ++i) {
    if (sum->type == ncclInt64) {
      static_cast<std::int64_t*>(sum->values)[i] *= sum->ranks;
    } else if (sum->type == ncclFloat64) {
      static_cast<double*>(sum->values)[i] *= sum->ranks;
    } else if (sum->type == ncclFloat32) {
      static_cast<float*>(sum->values)[i] *= static_cast<float>(sum->ranks);
    } else {
      bert::Bfloat16& value = static_cast<bert::Bfloat16*>(sum->values)[i];
      value = bert::Bfloat16(static_cast<float>(value) * static_cast<float>(sum->ranks));
    }
  }
  delete sum;
}

}  // namespace

extern "C" {

FakeNccl* fake_nccl() { return &state; }

ncclResult_t ncclGetVersion(int* version) {
  *version = 22809;
  return ncclSuccess;
}
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::memset(id->internal, 7, sizeof id->internal);
  return ncclSuccess;
}
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
  if (id.internal[0] != 7 || rank >= size) return ncclInvalidArgument;
  *comm = new ncclComm{size};
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  ++state.aborted;
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  ++state.destroyed;
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* error) {
  *error = state.calls_until_lost == 0 ? ncclRemoteError : ncclSuccess;
  if (state.calls_until_lost > 0) --state.calls_until_lost;
  return ncclSuccess;
}
ncclResult_t ncclAllReduce(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
  if (from != to || operation != ncclSum) return ncclInvalidArgument;
  const bool eight = type == ncclInt64 || type == ncclFloat64;
  state.bytes += count * (eight ? 8 : type == ncclFloat32 ? 4 : 2);
  fake_cuda_queue(stream, add_up, new Sum{to, count, type, comm->size});
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t error) {
  return error == ncclRemoteError ? "remote process exited or there was a network error" : "?";
}
const char* ncclGetLastError(ncclComm_t) { return "connection closed by peer"; }

}  // extern "C"
