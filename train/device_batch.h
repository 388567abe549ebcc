// DeviceBatch: room in device memory for one micro-batch, filled from host memory again and again.
#pragma once

#include <vector>

#include "data/batch.h"
#include "model/bert_model.h"
#include "runtime/arena.h"
#include "runtime/device.h"

namespace bert {

class DeviceBatch {
 public:
  // For what `model` reads, of up to `capacity`, with reals in `ops`' statistics dtype.
  DeviceBatch(Device& device, const Ops& ops, const Capacity& capacity, const BertModel& model);

  // How much device memory one takes, and host memory besides.
  static std::size_t count_bytes(const Ops& ops, const Capacity& capacity, const BertModel& model);

  // Copies `batch` in; it must fit the capacity. The result stays valid until the next upload.
  const ModelInput& upload(const Batch& batch);

 private:
  DeviceBatch() = default;
  void plan(Arena& arena, const Ops& ops, const Capacity& capacity, const InputParts& parts);
  template <typename T>
  void put(const Tensor& tensor, const std::vector<T>& values);
  void put_real(const Tensor& tensor, const std::vector<double>& values);

  Device* device_ = nullptr;
  Capacity capacity_;
  Arena arena_;
  std::vector<unsigned char> host_;  // what the arena holds: one copy an upload
  Tensor counts_;                    // i32 [3]: tokens, sequences, masked
  ModelInput input_;
};

}  // namespace bert
