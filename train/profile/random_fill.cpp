#include "train/profile/random_fill.h"

#include <algorithm>
#include <vector>

#include "runtime/bfloat16.h"
#include "runtime/philox.h"

namespace bert {

void fill_random(Device& device, const Tensor& tensor, float scale, std::uint32_t seed) {
  constexpr std::int64_t kDistinct = (std::int64_t{1} << 20) - 3;  // no row begins like another
  std::vector<float> values(static_cast<std::size_t>(std::min(tensor.numel(), kDistinct)));
  PhiloxStream stream(seed, 0, 0);
  for (float& v : values) {
    v = scale * (static_cast<float>(stream.next_u32()) * 0x1.0p-31f - 1.0f);
  }
  std::size_t done = values.size() * dtype_size(tensor.dtype());
  const auto copy_as = [&]<typename T>(T) {
    const std::vector<T> numbers(values.begin(), values.end());
    device.copy_from_host(tensor.raw(), numbers.data(), done);
  };
  if (tensor.dtype() == DType::f64) {
    copy_as(double{});
  } else if (tensor.dtype() == DType::bf16) {
    copy_as(Bfloat16{});
  } else {
    BERT_CHECK(tensor.dtype() == DType::f32);
    copy_as(float{});
  }
  // The rest repeats it, within the device: from the host would take seconds for a large model.
  while (done < tensor.bytes()) {
    const std::size_t more = std::min(done, tensor.bytes() - done);
    device.copy(static_cast<char*>(tensor.raw()) + done, tensor.raw(), more);
    done += more;
  }
}

}  // namespace bert
