#include "train/profile/utilisation.h"

#include <gtest/gtest.h>

namespace bert {
namespace {

TEST(Utilisation, NecessaryWorkByHand) {
  BertConfig config = bert_preset("bert_base");
  config.vocab_size = 30522;
  // A sequence of one token, nothing masked: the products of twelve layers (four of 768 x 768, two
  // of 768 x 3072, a multiplication and an addition each), the token's attention to itself (scores
  // and mean), three times for backward.
  const double layer = 2.0 * (4.0 * 768 * 768 + 2.0 * 768 * 3072) + 4.0 * 768;
  EXPECT_DOUBLE_EQ(necessary_flop(config, 1, 1, 0), 3.0 * 12.0 * layer);
  // A masked token: the transform and the decoder.
  EXPECT_DOUBLE_EQ(necessary_flop(config, 0, 0, 1), 3.0 * 2.0 * (768.0 * 768 + 768.0 * 30522));
}

TEST(Utilisation, PeaksAreKnownForSomeDevicesOnly) {
  EXPECT_EQ(peak_flop_per_second("NVIDIA H200 (sm_90, 132 SMs, 150 GB)", "bf16"), 989e12);
  EXPECT_EQ(peak_flop_per_second("NVIDIA H100 80GB HBM3 (sm_90, 132 SMs, 85 GB)", "fp8"), 1979e12);
  EXPECT_EQ(peak_flop_per_second("NVIDIA A100-SXM4-40GB (sm_80, 108 SMs, 42 GB)", "tf32"), 156e12);
  EXPECT_FALSE(peak_flop_per_second("NVIDIA A100-SXM4-40GB (sm_80, 108 SMs, 42 GB)", "fp8"));
  EXPECT_FALSE(peak_flop_per_second("NVIDIA H100 PCIe (sm_90, 114 SMs, 85 GB)", "bf16"));
  EXPECT_FALSE(peak_flop_per_second("NVIDIA H200 NVL (sm_90, 132 SMs, 150 GB)", "bf16"));
  EXPECT_FALSE(peak_flop_per_second("CPU", "fp32"));
}

}  // namespace
}  // namespace bert
