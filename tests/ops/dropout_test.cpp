// The dropout contract of kernels/dropout.h: the generator, the places, the statistics, and that
// every backend drops the same elements however a batch is packed.
#include "kernels/dropout.h"

#include <cmath>
#include <set>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "tests/support/backends.h"
#include "tests/support/device_memory.h"
#include "tests/support/random_inputs.h"

namespace bert::test {
namespace {

// The published vectors of Random123 for Philox4x32 with 7 rounds.
TEST(Philox, GivesThePublishedAnswers) {
  EXPECT_EQ(philox4x32_7({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x5f6fb709, 0x0d893f64, 0x4f121f81, 0x4f730a48}));
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32_7({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (PhiloxCounter{0x5207ddc2, 0x45165e59, 0x4d8ee751, 0x8c52f662}));
  EXPECT_EQ(
      philox4x32_7({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      (PhiloxCounter{0x4dfccaba, 0x190a87f0, 0xc47362ba, 0xb6b5242a}));
}

TEST(Philox, BelowIsUniformAndBounded) {
  PhiloxStream stream(1, 2, 3);
  std::vector<int> counts(7, 0);
  for (int i = 0; i < 70000; ++i) ++counts.at(stream.next_below(7));
  for (const int count : counts) EXPECT_NEAR(count, 10000, 5 * std::sqrt(10000.0));
}

TEST(Dropout, ValuesAreTheHalvesOfTheWords) {
  const PhiloxCounter bits{0x11112222, 0x33334444, 0x55556666, 0x77778888};
  const std::uint32_t expected[8] = {0x2222, 0x1111, 0x4444, 0x3333,
                                     0x6666, 0x5555, 0x8888, 0x7777};
  for (int i = 0; i < 8; ++i) EXPECT_EQ(dropout_value(bits, i), expected[i]);
}

TEST(Dropout, BitsDependOnEveryPartOfTheirCounter) {
  const DropoutKey key{.seed = 42, .step = 7};
  const PhiloxCounter bits = dropout_bits(key, 5, 11, 13);
  EXPECT_EQ(bits, philox4x32_7({13, 11, 7, 5}, {42, 0}));
  EXPECT_NE(bits, dropout_bits({.seed = 42, .step = 8}, 5, 11, 13));
  EXPECT_NE(bits, dropout_bits({.seed = 42 + (1ull << 32), .step = 7}, 5, 11, 13));
  EXPECT_NE(bits, dropout_bits(key, 6, 11, 13));
  EXPECT_NE(bits, dropout_bits(key, 5, 12, 13));
  EXPECT_NE(bits, dropout_bits(key, 5, 11, 14));
}

TEST(Dropout, SitesOfAModelAreDistinct) {
  std::set<std::uint32_t> sites{dropout_site(DropoutSite::embeddings)};
  for (std::uint32_t layer = 0; layer < 24; ++layer) {
    for (const DropoutSite site :
         {DropoutSite::attention, DropoutSite::attention_output, DropoutSite::feed_forward}) {
      EXPECT_TRUE(sites.insert(dropout_site(site, layer)).second);
    }
  }
}

TEST(Dropout, ScaleKeepsTheMean) {
  for (const float p : {0.0f, 0.1f, 0.25f, 0.5f, 0.9f}) {
    const double kept = 1.0 - dropout_threshold(p) / 65536.0;
    EXPECT_NEAR(kept, 1.0 - double(p), 1.0 / 65536.0);
    EXPECT_EQ(dropout_threshold(p) % 2, 0u);
    EXPECT_DOUBLE_EQ(kept * dropout_scale(p), 1.0);
  }
}

TEST(Dropout, HiddenPlacesAreUnique) {
  for (const std::int64_t channels : {1, 8, 33, 100}) {
    std::set<std::pair<std::uint32_t, int>> seen;
    for (std::int64_t position = 0; position < 20; ++position) {
      for (std::int64_t c = 0; c < channels; ++c) {
        const DropoutPlace place = hidden_dropout_place(position, c, channels);
        EXPECT_TRUE(place.element >= 0 && place.element < 8);
        EXPECT_TRUE(seen.insert({place.group, place.element}).second);
      }
    }
  }
}

TEST(Dropout, AttentionPlacesAreUniqueWithinASequence) {
  for (const std::int64_t length : {1, 5, 16, 17, 33, 100}) {
    std::set<std::pair<std::uint32_t, int>> seen;
    for (std::int64_t head = 0; head < 3; ++head) {
      for (std::int64_t query = 0; query < length; ++query) {
        for (std::int64_t key = 0; key < length; ++key) {
          const DropoutPlace place = attention_dropout_place(head, query, key, length);
          EXPECT_TRUE(place.element >= 0 && place.element < 8);
          EXPECT_TRUE(seen.insert({place.group, place.element}).second)
              << "length " << length << ", head " << head << ", " << query << ", " << key;
        }
      }
    }
  }
}

// One call of the generator serves one thread of a warp in a 16 x 16 tile: rows r and r + 8,
// columns 2c, 2c + 1, 2c + 8, 2c + 9.
TEST(Dropout, AttentionGroupsFollowTheTileOfAWarp) {
  for (int lane = 0; lane < 32; ++lane) {
    const int r = lane / 4, c = lane % 4;
    int element = 0;
    for (const int column : {2 * c, 2 * c + 8}) {
      for (const int row : {r, r + 8}) {
        for (const int next : {0, 1}) {
          const DropoutPlace place = attention_dropout_place(2, 16 + row, column + next, 20);
          // Head 2, tile row 1, tile column 0, two tiles each way.
          EXPECT_EQ(place.group, static_cast<std::uint32_t>(((2 * 2 + 1) * 2 + 0) * 32 + lane));
          EXPECT_EQ(place.element, element++);
        }
      }
    }
  }
}

// Five standard deviations of a binomial count.
void expect_fraction(std::int64_t hits, std::int64_t trials, double probability) {
  const double n = static_cast<double>(trials);
  EXPECT_NEAR(static_cast<double>(hits), n * probability,
              5.0 * std::sqrt(n * probability * (1.0 - probability)));
}

TEST(Dropout, KeepsTheRightFractionIndependently) {
  const DropoutKey key{.seed = 3, .step = 1};
  for (const float p : {0.1f, 0.5f}) {
    const double kept = 1.0 - dropout_threshold(p) / 65536.0;
    const auto keep = [&](std::uint32_t site, std::uint32_t sequence, std::uint32_t group,
                          int element) {
      return dropout_value(dropout_bits(key, site, sequence, group), element) >=
             dropout_threshold(p);
    };
    std::int64_t trials = 0, single = 0, with_next = 0, with_site = 0, with_sequence = 0;
    for (std::uint32_t group = 0; group < 20000; ++group) {
      for (int element = 0; element < 8; ++element) {
        const bool here = keep(1, 4, group, element);
        ++trials;
        single += here;
        with_next += here && keep(1, 4, group + (element == 7), (element + 1) % 8);
        with_site += here && keep(2, 4, group, element);
        with_sequence += here && keep(1, 5, group, element);
      }
    }
    expect_fraction(single, trials, kept);
    expect_fraction(with_next, trials, kept * kept);
    expect_fraction(with_site, trials, kept * kept);
    expect_fraction(with_sequence, trials, kept * kept);
  }
}

// --- On every backend ---------------------------------------------------------------------------

class DropoutOnBackend : public ::testing::TestWithParam<std::size_t> {
 protected:
  Backend backend_ = available_backends()[GetParam()].make();
};

// The dropped embeddings of sequences packed as given; sequence s has global index `indices[s]`.
std::vector<double> embed(Backend& backend, const std::vector<double>& lengths,
                          const std::vector<double>& indices, std::int64_t channels, float p,
                          bool with_key = true) {
  std::vector<double> positions, sequences, cu{0.0};
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    for (double i = 0; i < lengths[s]; ++i) {
      positions.push_back(i);
      sequences.push_back(static_cast<double>(s));
    }
    cu.push_back(cu.back() + lengths[s]);
  }
  Device& device = *backend.device;
  const DType real = backend.ops->dtype();
  const auto t = static_cast<std::int64_t>(positions.size());
  const auto b = static_cast<std::int64_t>(lengths.size());
  const std::vector<double> zeros(positions.size(), 0.0);
  const auto table = [&](std::int64_t rows, double value) {
    return DeviceTensor(device, real, {rows, channels},
                        std::vector<double>(static_cast<std::size_t>(rows * channels), value));
  };
  const DeviceTensor ids(device, DType::i32, {t}, zeros), types(device, DType::i32, {t}, zeros);
  const DeviceTensor position_ids(device, DType::i32, {t}, positions);
  const DeviceTensor token_sequence(device, DType::i32, {t}, sequences);
  const DeviceTensor cu_seqlens(device, DType::i32, {b + 1}, cu);
  const DeviceTensor sequence_index(device, DType::u32, {b}, indices);
  const DeviceStruct<std::int32_t> num_tokens(device, static_cast<std::int32_t>(t));
  const DeviceStruct<std::int32_t> num_sequences(device, static_cast<std::int32_t>(b));
  const DeviceStruct<DropoutKey> key(device, {.seed = 99, .step = 3});
  const DeviceTensor word = table(1, 1.0), position = table(64, 0.0), type = table(1, 0.0);
  const DeviceTensor y(device, real, {t, channels});
  backend.ops->embeddings_forward(
      {.input_ids = ids,
       .token_type_ids = types,
       .tokens = {.position_ids = position_ids,
                  .token_sequence = token_sequence,
                  .cu_seqlens = cu_seqlens,
                  .sequence_index = sequence_index,
                  .num_tokens = num_tokens.data(),
                  .num_sequences = num_sequences.data(),
                  .max_seqlen = 64},
       .word = word,
       .position = position,
       .type = type,
       .dropout = {.probability = p, .site = 0, .key = with_key ? key.data() : nullptr},
       .y = y});
  return y.values();
}

TEST_P(DropoutOnBackend, DropsByTheContractAndScalesTheRest) {
  const std::int64_t channels = 43;
  const float p = 0.3f;
  const std::vector<double> y = embed(backend_, {5, 9}, {70, 8}, channels, p);
  const double scale = dropout_scale(p);
  const double precision = backend_.ops->dtype() == DType::bf16 ? 0x1p-8 * scale : 1e-6;
  for (std::int64_t t = 0; t < 14; ++t) {
    for (std::int64_t c = 0; c < channels; ++c) {
      const DropoutPlace place = hidden_dropout_place(t < 5 ? t : t - 5, c, channels);
      const PhiloxCounter bits =
          dropout_bits({.seed = 99, .step = 3}, 0, t < 5 ? 70 : 8, place.group);
      const bool kept = dropout_value(bits, place.element) >= dropout_threshold(p);
      EXPECT_NEAR(y[static_cast<std::size_t>(t * channels + c)], kept ? scale : 0.0,
                  kept ? precision : 0.0);
    }
  }
}

TEST_P(DropoutOnBackend, DoesNotDependOnPacking) {
  const std::int64_t channels = 20;
  const std::vector<double> packed = embed(backend_, {7, 3, 11}, {5, 6, 31}, channels, 0.5f);
  const std::vector<double> alone = embed(backend_, {11}, {31}, channels, 0.5f);
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(), packed.begin() + 10 * channels));
}

TEST_P(DropoutOnBackend, ReadsNoKeyWithoutDropout) {
  for (const double y : embed(backend_, {4}, {0}, 16, 0.0f, false)) EXPECT_EQ(y, 1.0);
}

INSTANTIATE_TEST_SUITE_P(All, DropoutOnBackend,
                         ::testing::Range(std::size_t{0}, available_backends().size()),
                         [](const auto& param_info) {
                           return available_backends()[param_info.param].name;
                         });

}  // namespace
}  // namespace bert::test
