// DeviceBatch: room in device memory for one micro-batch, filled from host memory again and again.
#pragma once

#include <vector>

#include "data/batch.h"
#include "model/bert_for_pretraining.h"
#include "runtime/arena.h"
#include "runtime/device.h"

namespace bert {

class DeviceBatch {
 public:
  DeviceBatch(Device& device, const Capacity& capacity, bool with_nsp);

  // How much device memory one takes, and host memory besides.
  static std::size_t count_bytes(const Capacity& capacity, bool with_nsp);

  // Copies `batch` in; it must fit the capacity. The result stays valid until the next upload.
  const PretrainingInput& upload(const Batch& batch);

 private:
  DeviceBatch() = default;
  void plan(Arena& arena, const Capacity& capacity, bool with_nsp);
  template <typename T>
  void put(const Tensor& tensor, const std::vector<T>& values);

  Device* device_ = nullptr;
  Capacity capacity_;
  Arena arena_;
  std::vector<unsigned char> host_;  // what the arena holds: one copy an upload
  Tensor counts_;                    // i32 [3]: tokens, sequences, masked
  PretrainingInput input_;
};

}  // namespace bert
