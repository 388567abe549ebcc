#include <algorithm>

#include "tests/ops/loss_case.h"
#include "tests/ops/op_cases.h"
#include "tests/support/random_inputs.h"

namespace bert::test {
namespace {

struct Shape {
  std::string name{};
  Packing packing{};
  std::int64_t padding = 0;  // columns after the two
  double scale = 2.0;        // of the logits
  bool ignore_some = false;
  bool differences = true;
};

OpCase make(const Shape& s) {
  OpCase c{.op = "span_cross_entropy", .name = s.name};
  c.differences = s.differences;
  add_tokens(c, s.packing);
  const std::int64_t capacity = c["sequence_index"].shape[0];
  const auto sequences = static_cast<std::int64_t>(s.packing.lengths.size());
  c.input("logits", {s.packing.token_capacity(), 2 + s.padding}, s.packing.rows(), s.scale);
  std::vector<double> targets;
  std::int64_t longest = 1;
  for (const std::int64_t length : s.packing.lengths) {
    const std::string seed = c.seed_of("targets" + std::to_string(targets.size()));
    for (const double target : random_integers(seed, 2, length)) targets.push_back(target);
    longest = std::max(longest, length);
  }
  // An end, both of a sequence, a start.
  for (const std::size_t i : {1u, 4u, 5u, 8u}) {
    if (s.ignore_some && i < targets.size()) targets[i] = kIgnoreIndex;
  }
  c.integers("targets", {2 * capacity}, {0, 2 * sequences}, targets);
  add_loss(c);
  const std::int64_t terms = longest * static_cast<std::int64_t>(1 + s.scale);
  c.statistics("target_loss", {capacity, 2}, {0, sequences}, terms);
  add_loss_upstream(c, "target_loss");
  c.gradient("dlogits", "logits", terms).starts_as = "logits";
  c.forward = [](Ops& ops, const BoundCase& b) {
    ops.span_cross_entropy({.logits = b("logits"),
                            .tokens = b.tokens(),
                            .targets = b("targets"),
                            .sums = sums_of(b),
                            .target_loss = b("target_loss")});
  };
  c.backward = [](Ops& ops, const BoundCase& b) {
    ops.span_cross_entropy({.logits = b("dlogits"),
                            .tokens = b.tokens(),
                            .targets = b("targets"),
                            .loss_scale = b.pointer<double>("loss_scale"),
                            .sums = sums_of(b)});
  };
  return c;
}

}  // namespace

std::vector<OpCase> span_cross_entropy_cases() {
  const Packing unequal{.lengths = {5, 1, 7}, .capacity = 16, .sequence_capacity = 4};
  const Packing several{.lengths = {4, 9, 3, 1, 6}, .capacity = 30, .sequence_capacity = 6};
  return {
      make({.name = "two_tokens", .packing = {.lengths = {2}}}),
      make({.name = "none",
            .packing = {.lengths = {}, .capacity = 3, .sequence_capacity = 2},
            .differences = false}),
      make({.name = "unequal", .packing = unequal}),
      make({.name = "padded", .packing = unequal, .padding = 6}),
      make({.name = "ignored", .packing = several, .padding = 1, .ignore_some = true}),
      make({.name = "large_logits", .packing = several, .scale = 100.0, .differences = false}),
      make({.name = "long",
            .packing = {.lengths = {384, 130, 512, 7}, .capacity = 1100, .sequence_capacity = 5},
            .scale = 4.0,
            .ignore_some = true,
            .differences = false}),
  };
}

}  // namespace bert::test
