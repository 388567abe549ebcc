#include "tests/ops/loss_case.h"
#include "tests/ops/op_cases.h"

namespace bert::test {
namespace {

// `padding` columns after the predictions.
OpCase make(const std::string& name, std::int64_t count, std::int64_t capacity,
            std::int64_t padding) {
  OpCase c{.op = "squared_error", .name = name};
  c.differences = count > 0 && count < 100;
  const Rows rows{0, count};
  c.input("predictions", {capacity, 1 + padding}, rows, 2.0);
  c.input("targets", {capacity}, rows, 2.0).kind = Kind::statistics;
  add_count(c, "rows", count);
  add_loss(c);
  c.statistics("row_loss", {capacity}, rows, 1);
  add_loss_upstream(c, "row_loss");
  c.gradient("dpredictions", "predictions", 1).starts_as = "predictions";
  c.forward = [](Ops& ops, const BoundCase& b) {
    ops.squared_error({.predictions = b("predictions"),
                       .targets = b("targets"),
                       .rows = b.count("rows"),
                       .sums = sums_of(b),
                       .row_loss = b("row_loss")});
  };
  c.backward = [](Ops& ops, const BoundCase& b) {
    ops.squared_error({.predictions = b("dpredictions"),
                       .targets = b("targets"),
                       .rows = b.count("rows"),
                       .loss_scale = b.pointer<double>("loss_scale"),
                       .sums = sums_of(b)});
  };
  return c;
}

}  // namespace

std::vector<OpCase> squared_error_cases() {
  return {
      make("one_row", 1, 1, 0), make("none", 0, 3, 2),     make("odd", 7, 9, 0),
      make("padded", 6, 7, 7),  make("many", 300, 311, 3),
  };
}

}  // namespace bert::test
