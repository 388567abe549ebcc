#include "tests/ops/op_cases.h"

namespace bert::test {
namespace {

struct Shape {
  std::string name{};
  std::int64_t rows, capacity, channels;
  double mean = 0.0;  // of x: what a careless variance cancels
  bool in_place = false, accumulate = false, forward_in_place = false, differences = true;
};

OpCase make(const Shape& s) {
  OpCase c{.op = "layer_norm", .name = s.name};
  const Rows rows{0, s.rows};
  c.differences = s.differences;
  c.input("x", {s.capacity, s.channels}, rows, 1.0, s.mean);
  c.parameter("gamma", {s.channels}, 0.5, 1.0);
  c.parameter("beta", {s.channels});
  add_count(c, "rows", s.rows);
  // The mean of x is taken off again: what is left has the rounding errors of numbers of its size.
  const std::int64_t terms = s.channels * static_cast<std::int64_t>(1 + s.mean * s.mean);
  c.output("y", {s.capacity, s.channels}, rows, terms).memory_of =
      std::string(s.forward_in_place ? "x" : "");
  c.statistics("mean", {s.capacity}, rows, s.channels);
  c.statistics("rstd", {s.capacity}, rows, terms);
  c.upstream("dy", "y");
  c.forward = [](Ops& ops, const BoundCase& b) {
    ops.layer_norm_forward({.x = b("x"),
                            .gamma = b("gamma"),
                            .beta = b("beta"),
                            .epsilon = 1e-12,
                            .rows = b.count("rows"),
                            .y = b("y"),
                            .mean = b("mean"),
                            .rstd = b("rstd")});
  };
  if (s.forward_in_place) return c;  // x is gone, there is no backward
  if (s.accumulate) {
    c.accumulated("dx", "x", terms);
  } else {
    c.gradient("dx", "x", terms).memory_of = s.in_place ? "dy" : "";
  }
  c.accumulated("dgamma", "gamma", s.rows + terms);
  c.accumulated("dbeta", "beta", s.rows);
  c.backward = [accumulate = s.accumulate](Ops& ops, const BoundCase& b) {
    ops.layer_norm_backward({.dy = b("dy"),
                             .x = b("x"),
                             .gamma = b("gamma"),
                             .mean = b("mean"),
                             .rstd = b("rstd"),
                             .rows = b.count("rows"),
                             .dx = b("dx"),
                             .accumulate_dx = accumulate,
                             .dgamma = b("dgamma"),
                             .dbeta = b("dbeta")});
  };
  return c;
}

}  // namespace

std::vector<OpCase> layer_norm_cases() {
  return {
      make({.name = "one_row", .rows = 1, .capacity = 1, .channels = 8}),
      make({.name = "no_row_counts",
            .rows = 0,
            .capacity = 3,
            .channels = 16,
            .differences = false}),
      make({.name = "odd", .rows = 7, .capacity = 9, .channels = 33}),
      make({.name = "in_place", .rows = 6, .capacity = 8, .channels = 24, .in_place = true}),
      make({.name = "accumulate", .rows = 5, .capacity = 7, .channels = 20, .accumulate = true}),
      make({.name = "forward_in_place",
            .rows = 5,
            .capacity = 7,
            .channels = 20,
            .forward_in_place = true}),
      make({.name = "large_mean", .rows = 3, .capacity = 3, .channels = 40, .mean = 8.0}),
      make({.name = "base_width",
            .rows = 70,
            .capacity = 80,
            .channels = 768,
            .differences = false}),
      // Every way in which a row can lie on the threads of a GPU: vectors of 8 or not, a warp or a
      // block, all of their channels or some.
      make({.name = "width_256", .rows = 5, .capacity = 6, .channels = 256, .differences = false}),
      make({.name = "width_504", .rows = 5, .capacity = 6, .channels = 504, .differences = false}),
      make({.name = "width_512_accumulate",
            .rows = 5,
            .capacity = 6,
            .channels = 512,
            .accumulate = true,
            .differences = false}),
      make({.name = "large_width",
            .rows = 9,
            .capacity = 9,
            .channels = 1024,
            .differences = false}),
      make({.name = "width_1000_accumulate",
            .rows = 5,
            .capacity = 6,
            .channels = 1000,
            .accumulate = true,
            .differences = false}),
      make({.name = "odd_width_1023",
            .rows = 3,
            .capacity = 4,
            .channels = 1023,
            .differences = false}),
      make(
          {.name = "width_1288", .rows = 5, .capacity = 6, .channels = 1288, .differences = false}),
      make({.name = "odd_width_2061",
            .rows = 4,
            .capacity = 5,
            .channels = 2061,
            .differences = false}),
      make({.name = "many_rows",
            .rows = 1000,
            .capacity = 1024,
            .channels = 100,
            .differences = false}),
      // A warp, or a block, has more than 32 rows.
      make({.name = "long_walk",
            .rows = 1400,
            .capacity = 1410,
            .channels = 16,
            .differences = false}),
      make({.name = "long_walk_of_blocks",
            .rows = 70,
            .capacity = 75,
            .channels = 1032,
            .differences = false}),
  };
}

}  // namespace bert::test
