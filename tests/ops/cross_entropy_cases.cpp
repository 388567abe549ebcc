#include "tests/ops/loss_case.h"
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
  bool weighted = false;
  bool differences = true;
};

OpCase make(const Shape& s) {
  OpCase c{.op = "cross_entropy", .name = s.name};
  const Rows rows{0, s.rows};
  c.differences = s.differences;
  c.input("logits", {s.capacity, s.classes + s.padding}, rows, s.scale);
  std::vector<double> targets = random_integers(c.seed_of("targets"), s.capacity, s.classes);
  for (std::size_t i = 1; s.ignore_some && i < targets.size(); i += 3) targets[i] = kIgnoreIndex;
  c.integers("targets", {s.capacity}, rows, targets);
  if (s.weighted) {
    c.input("weights", {s.capacity}, rows, 0.5, 1.0).kind = Kind::statistics;
  }
  add_count(c, "rows", s.rows);
  add_loss(c);
  // exp turns a logit's absolute error into a relative one.
  const std::int64_t terms = s.classes * static_cast<std::int64_t>(1 + s.scale);
  c.statistics("row_loss", {s.capacity}, rows, terms);
  add_loss_upstream(c, "row_loss");
  c.gradient("dlogits", "logits", terms).starts_as = "logits";
  c.forward = [s](Ops& ops, const BoundCase& b) {
    ops.cross_entropy({.logits = b("logits"),
                       .classes = s.classes,
                       .targets = b("targets"),
                       .weights = s.weighted ? b("weights") : Tensor(),
                       .rows = b.count("rows"),
                       .sums = sums_of(b),
                       .row_loss = b("row_loss")});
  };
  c.backward = [s](Ops& ops, const BoundCase& b) {
    ops.cross_entropy({.logits = b("dlogits"),
                       .classes = s.classes,
                       .targets = b("targets"),
                       .weights = s.weighted ? b("weights") : Tensor(),
                       .rows = b.count("rows"),
                       .loss_scale = b.pointer<double>("loss_scale"),
                       .sums = sums_of(b)});
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
      make({.name = "weighted",
            .rows = 7,
            .capacity = 9,
            .classes = 13,
            .padding = 3,
            .ignore_some = true,
            .weighted = true}),
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
            .weighted = true,
            .differences = false}),
  };
}

}  // namespace bert::test
