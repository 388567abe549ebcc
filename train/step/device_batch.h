// DeviceBatch: room in device memory for one micro-batch, filled from host memory again and again.
//
// On a CPU all batches have tensors of the same size, of which the rows that count are computed. A
// GPU computes tensors whole, and can repeat recorded work for tensors of the same size only. So
// there a batch gets tensors of one of a few sizes, that is little larger than what they hold.
#pragma once

#include <vector>

#include "data/samples/batch.h"
#include "model/bert_model.h"
#include "runtime/arena.h"
#include "runtime/device.h"

namespace bert {

// n rounded up to a multiple of 64 and of a sixteenth of the power of two below it, at most `most`.
std::int64_t round_rows(std::int64_t n, std::int64_t most);

// What of `capacity` a GPU is to compute for `batch`: its tokens and masked tokens by round_rows,
// its sequences and the longest of them rounded up to a power of two.
Capacity fitting_capacity(const Capacity& capacity, const Batch& batch);

class DeviceBatch {
 public:
  // For what `model` reads, of up to `capacity`, with reals in `ops`' statistics dtype.
  DeviceBatch(Device& device, const Ops& ops, const Capacity& capacity, const BertModel& model);

  // How much device memory one takes, and host memory besides.
  static std::size_t count_bytes(const Ops& ops, const Capacity& capacity, const BertModel& model);

  // Copies `batch` in; it must fit the capacity. The result stays valid until the next upload. Its
  // tensors are as large as the capacity on a CPU, which computes the rows that count, otherwise as
  // fitting_capacity says; or as `size`, into which it must fit then.
  const ModelInput& upload(const Batch& batch);
  const ModelInput& upload(const Batch& batch, const Capacity& size);
  // Which of its sizes the last upload had, in the order in which they came. Tensors of one size
  // are always at the same addresses.
  int layout() const { return layout_; }
  const Capacity& capacity() const { return capacity_; }

 private:
  DeviceBatch() = default;
  void plan(Arena& arena, const Ops& ops, const Capacity& capacity, const InputParts& parts);
  template <typename T>
  void put(const Tensor& tensor, const std::vector<T>& values);
  void put_real(const Tensor& tensor, const std::vector<double>& values);

  Device* device_ = nullptr;
  const Ops* ops_ = nullptr;
  InputParts parts_;
  Capacity capacity_;
  std::vector<Capacity> sizes_;  // that there have been
  int layout_ = 0;               // of them, the present one
  Arena arena_;
  std::vector<unsigned char> host_;  // what the arena holds: one copy an upload
  Tensor counts_;                    // i32 [3]: tokens, sequences, masked
  ModelInput input_;
};

}  // namespace bert
