#include <algorithm>
#include <cmath>

#include "tests/ops/op_cases.h"

namespace bert::test {
namespace {

constexpr std::uint32_t kSite = dropout_site(DropoutSite::attention, 1);

struct Shape {
  std::string name{};
  Packing packing{};
  std::int64_t heads, head_size;
  double dropout = 0.1;
  double scale = 1.0;    // of q, k and v
  bool opposed = false;  // q about 4 and k about -4: every score is far below zero
  bool rising = false;   // q = 1 and k about 2 floor(j / 16) - 16: every 16 keys weigh far more
  bool differences = true;
};

// Of a token within its sequence.
std::int64_t position(const Packing& packing, std::int64_t token) {
  for (const std::int64_t length : packing.lengths) {
    if (token < length) return token;
    token -= length;
  }
  return 0;
}

OpCase make(const Shape& s) {
  OpCase c{.op = "attention", .name = s.name};
  const Rows rows = s.packing.rows();
  const std::int64_t t = s.packing.token_capacity(), n = s.heads * s.head_size;
  std::int64_t longest = 0;
  for (const std::int64_t length : s.packing.lengths) longest = std::max(longest, length);
  // A score's error is in proportion to the score, and exp turns it into one relative to P.
  const double score =
      s.opposed || s.rising ? 2.0 * static_cast<double>(s.head_size) : s.scale * s.scale;
  const auto scores = static_cast<std::int64_t>(score * score);
  const std::int64_t terms = (s.head_size + longest) * std::max<std::int64_t>(1, scores);
  c.dropout = s.dropout;
  c.differences = s.differences;
  add_tokens(c, s.packing);
  CaseTensor& qkv = c.input("qkv", {t, 3 * n}, rows, s.scale);
  for (std::int64_t i = 0; s.opposed && i < t * 3 * n; ++i) {
    double& value = qkv.values[static_cast<std::size_t>(i)];
    if (i % (3 * n) >= 2 * n) continue;
    value = 4.0 + std::nearbyint(8.0 * value) / 32.0;  // a bf16
    if (i % (3 * n) >= n) value = -value;
  }
  for (std::int64_t i = 0; s.rising && i < t * 3 * n; ++i) {
    double& value = qkv.values[static_cast<std::size_t>(i)];
    if (i % (3 * n) >= 2 * n) continue;
    const auto tile = static_cast<double>(position(s.packing, i / (3 * n)) / 16);
    value = i % (3 * n) < n ? 1.0 : 2.0 * (tile - 8.0) + std::nearbyint(2.0 * value) / 4.0;
  }
  c.output("y", {t, n}, rows, terms);
  c.statistics("lse", {s.heads, t}, {1, rows.count}, terms);
  c.upstream("dy", "y");
  c.gradient("dqkv", "qkv", terms);
  c.forward = [heads = s.heads](Ops& ops, const BoundCase& b) {
    ops.attention_forward({.qkv = b("qkv"),
                           .num_heads = heads,
                           .tokens = b.tokens(),
                           .dropout = b.dropout(kSite),
                           .y = b("y"),
                           .lse = b("lse")});
  };
  c.backward = [heads = s.heads](Ops& ops, const BoundCase& b) {
    ops.attention_backward({.dy = b("dy"),
                            .y = b("y"),
                            .qkv = b("qkv"),
                            .lse = b("lse"),
                            .num_heads = heads,
                            .tokens = b.tokens(),
                            .dropout = b.dropout(kSite),
                            .dqkv = b("dqkv")});
  };
  return c;
}

}  // namespace

std::vector<OpCase> attention_cases() {
  std::vector<OpCase> cases = {
      make({.name = "one_token", .packing = {.lengths = {1}}, .heads = 1, .head_size = 8}),
      make({.name = "one_token_no_dropout",
            .packing = {.lengths = {1}},
            .heads = 2,
            .head_size = 4,
            .dropout = 0.0}),
      make({.name = "one_sequence", .packing = {.lengths = {9}}, .heads = 2, .head_size = 5}),
      make({.name = "unequal",
            .packing = {.lengths = {5, 1, 17, 2}, .capacity = 32, .sequence_capacity = 6},
            .heads = 2,
            .head_size = 3}),
      make({.name = "no_dropout",
            .packing = {.lengths = {6, 3}, .capacity = 12},
            .heads = 3,
            .head_size = 8,
            .dropout = 0.0}),
      make({.name = "much_dropout",
            .packing = {.lengths = {20, 3}, .capacity = 24},
            .heads = 1,
            .head_size = 16,
            .dropout = 0.5}),
      make({.name = "sharp",
            .packing = {.lengths = {12, 30}, .capacity = 48},
            .heads = 2,
            .head_size = 16,
            .scale = 4.0,
            .differences = false}),
      make({.name = "long",
            .packing = {.lengths = {200, 129}, .capacity = 336},
            .heads = 2,
            .head_size = 64,
            .differences = false}),
      make({.name = "tiles_of_sixteen",
            .packing = {.lengths = {16, 32, 48, 64}},
            .heads = 2,
            .head_size = 64,
            .differences = false}),
  };
  // Where tiles of 16, 32, 64 and 128 rows begin and end; and one sequence longer than the others,
  // so that tiles are looked for in cu_seqlens.
  cases.push_back(make({.name = "around_64",
                        .packing = {.lengths = {15, 1, 17, 63, 64, 65}, .capacity = 240},
                        .heads = 1,
                        .head_size = 64,
                        .differences = false}));
  cases.push_back(make({.name = "around_128",
                        .packing = {.lengths = {127, 128, 129}},
                        .heads = 1,
                        .head_size = 32,
                        .differences = false}));
  cases.push_back(make({.name = "many_sequences",
                        .packing = {.lengths = {3, 1, 4, 130, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9},
                                    .capacity = 256,
                                    .sequence_capacity = 40},
                        .heads = 2,
                        .head_size = 64,
                        .differences = false}));
  // Beyond what the tensor-core kernels compare dropout bits with, and just within.
  for (const double dropout : {0.96, 0.97}) {
    cases.push_back(make({.name = "mostly_dropped_" + std::to_string(std::lround(100.0 * dropout)),
                          .packing = {.lengths = {40, 17}},
                          .heads = 1,
                          .head_size = 64,
                          .dropout = dropout,
                          .differences = false}));
  }
  // Where there is no key, the exponential of a score of 0 less these log-sum-exps overflows.
  cases.push_back(make({.name = "low_scores",
                        .packing = {.lengths = {37, 20}},
                        .heads = 1,
                        .head_size = 64,
                        .opposed = true,
                        .differences = false}));
  // Where the kernels that hold a whole sequence begin, change and end, with a shorter sequence in
  // between and a tail; with and without dropout.
  for (const std::int64_t head_size : {32, 64, 128}) {
    const auto with = [&](const std::string& name, const Packing& packing, bool dropout) {
      cases.push_back(make({.name = name + "_" + std::to_string(head_size),
                            .packing = packing,
                            .heads = 1,
                            .head_size = head_size,
                            .dropout = dropout ? 0.1 : 0.0,
                            .differences = false}));
    };
    with("up_to_128", {.lengths = {127, 1, 128, 15, 17}, .capacity = 300}, true);
    with("up_to_256", {.lengths = {31, 256, 129}, .capacity = 420}, head_size != 32);
    with("up_to_512", {.lengths = {257, 16}, .capacity = 280}, head_size != 32);
    with("beyond_512", {.lengths = {20, 513, 1}, .capacity = 540}, head_size != 128);
  }
  cases.push_back(make({.name = "of_512",
                        .packing = {.lengths = {512}},
                        .heads = 1,
                        .head_size = 64,
                        .differences = false}));
  for (const std::int64_t head_size : {32, 64, 128}) {
    cases.push_back(make({.name = "rising_" + std::to_string(head_size),
                          .packing = {.lengths = {head_size == 128 ? 150 : 128, 40}},
                          .heads = 1,
                          .head_size = head_size,
                          .rising = true,
                          .differences = false}));
  }
  for (const std::int64_t head_size : {32, 64, 128}) {
    cases.push_back(make({.name = "no_dropout_" + std::to_string(head_size),
                          .packing = {.lengths = {70, 18}, .capacity = 96},
                          .heads = 1,
                          .head_size = head_size,
                          .dropout = 0.0,
                          .scale = head_size == 64 ? 4.0 : 1.0,
                          .differences = false}));
  }
  for (const std::int64_t head_size : {8, 16, 32, 64, 128, 7, 33, 80}) {
    cases.push_back(
        make({.name = "head_size_" + std::to_string(head_size),
              .packing = {.lengths = {33, 16, 1, 47, 2}, .capacity = 112, .sequence_capacity = 7},
              .heads = 3,
              .head_size = head_size,
              .differences = false}));
  }
  return cases;
}

}  // namespace bert::test
