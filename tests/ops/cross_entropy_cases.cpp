#include <bit>

#include "tests/ops/op_cases.h"
#include "tests/support/random_inputs.h"

namespace bert::test {
namespace {

struct Shape {
  std::string name{};
  std::int64_t rows, capacity, classes;
  std::int64_t padding = 0;  // columns after the classes
  double scale = 2.0;        // of the logits
  bool ignore_some = false;
  bool differences = true;
};

std::vector<double> bytes_of(double value) {
  std::vector<double> bytes;
  for (const std::byte b : std::as_bytes(std::span(&value, 1))) {
    bytes.push_back(std::to_integer<int>(b));
  }
  return bytes;
}

OpCase make(const Shape& s) {
  OpCase c{.op = "cross_entropy", .name = s.name};
  const Rows rows{0, s.rows};
  const double loss_scale = 1.0 / 13.0;
  c.differences = s.differences;
  c.input("logits", {s.capacity, s.classes + s.padding}, rows, s.scale);
  std::vector<double> targets = random_integers(c.seed_of("targets"), s.capacity, s.classes);
  for (std::size_t i = 1; s.ignore_some && i < targets.size(); i += 3) targets[i] = kIgnoreIndex;
  c.integers("targets", {s.capacity}, rows, targets);
  add_count(c, "rows", s.rows);
  c.add({.name = "loss_scale", .kind = Kind::bytes, .shape = {8}, .values = bytes_of(loss_scale)});
  c.add({.name = "sums",
         .role = Role::state,
         .kind = Kind::bytes,
         .shape = {sizeof(LossSums)},
         .values = std::vector<double>(sizeof(LossSums), 0.0)});
  // exp turns a logit's absolute error into a relative one.
  const std::int64_t terms = s.classes * static_cast<std::int64_t>(1 + s.scale);
  c.statistics("row_loss", {s.capacity}, rows, terms);
  // The loss of the case is loss_scale * sum of the rows' losses.
  CaseTensor& weights = c.upstream("row_weights", "row_loss");
  for (std::size_t i = 0; i < weights.values.size(); ++i) {
    weights.values[i] = weights.is_valid(static_cast<std::int64_t>(i)) ? loss_scale : 0.0;
  }
  c.gradient("dlogits", "logits", terms).starts_as = "logits";
  c.forward = [s](Ops& ops, const BoundCase& b) {
    ops.cross_entropy({.logits = b("logits"),
                       .classes = s.classes,
                       .targets = b("targets"),
                       .rows = b.count("rows"),
                       .sums = static_cast<LossSums*>(b("sums").raw()),
                       .row_loss = b("row_loss")});
  };
  c.backward = [s](Ops& ops, const BoundCase& b) {
    ops.cross_entropy({.logits = b("dlogits"),
                       .classes = s.classes,
                       .targets = b("targets"),
                       .rows = b.count("rows"),
                       .loss_scale = b.pointer<double>("loss_scale"),
                       .sums = static_cast<LossSums*>(b("sums").raw())});
  };
  return c;
}

}  // namespace

std::vector<OpCase> cross_entropy_cases() {
  return {
      make({.name = "two_classes", .rows = 1, .capacity = 1, .classes = 2}),
      make({.name = "none", .rows = 0, .capacity = 3, .classes = 5, .differences = false}),
      make({.name = "odd", .rows = 7, .capacity = 9, .classes = 37}),
      make({.name = "padded",
            .rows = 6,
            .capacity = 7,
            .classes = 21,
            .padding = 3,
            .ignore_some = true}),
      make({.name = "ignored", .rows = 8, .capacity = 10, .classes = 11, .ignore_some = true}),
      make({.name = "large_logits",
            .rows = 5,
            .capacity = 6,
            .classes = 50,
            .scale = 100.0,
            .differences = false}),
      make({.name = "vocabulary",
            .rows = 60,
            .capacity = 64,
            .classes = 4001,
            .scale = 4.0,
            .differences = false}),
      // BERT's own, and one of many languages: rows too long to be kept close by.
      make({.name = "bert_vocabulary",
            .rows = 3,
            .capacity = 4,
            .classes = 30522,
            .padding = 6,
            .differences = false}),
      make({.name = "long_rows",
            .rows = 3,
            .capacity = 4,
            .classes = 60013,
            .ignore_some = true,
            .differences = false}),
  };
}

}  // namespace bert::test
