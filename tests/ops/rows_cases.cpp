// gather_rows forward, scatter_add_rows as its backward.
#include "tests/ops/op_cases.h"
#include "tests/support/random_inputs.h"

namespace bert::test {
namespace {

struct Shape {
  std::string name{};
  std::int64_t rows, capacity, tokens, token_capacity, channels;
  bool differences = true;
};

OpCase make(const Shape& s) {
  OpCase c{.op = "gather_scatter_rows", .name = s.name};
  const Rows picked{0, s.rows};
  c.differences = s.differences;
  c.input("x", {s.token_capacity, s.channels}, {0, s.tokens});
  c.integers("rows", {s.capacity}, picked, random_distinct(c.seed_of("rows"), s.rows, s.tokens));
  add_count(c, "count", s.rows);
  c.output("y", {s.capacity, s.channels}, picked, 1);
  c.upstream("dy", "y");
  c.accumulated("dx", "x", 1);
  c.forward = [](Ops& ops, const BoundCase& b) {
    ops.gather_rows({.x = b("x"), .rows = b("rows"), .count = b.count("count"), .y = b("y")});
  };
  c.backward = [](Ops& ops, const BoundCase& b) {
    ops.scatter_add_rows(
        {.y = b("dy"), .rows = b("rows"), .count = b.count("count"), .x = b("dx")});
  };
  return c;
}

}  // namespace

std::vector<OpCase> rows_cases() {
  return {
      make({.name = "one",
            .rows = 1,
            .capacity = 1,
            .tokens = 1,
            .token_capacity = 1,
            .channels = 8}),
      make({.name = "none",
            .rows = 0,
            .capacity = 4,
            .tokens = 9,
            .token_capacity = 9,
            .channels = 8,
            .differences = false}),
      make({.name = "some",
            .rows = 4,
            .capacity = 7,
            .tokens = 19,
            .token_capacity = 24,
            .channels = 13}),
      make({.name = "all",
            .rows = 9,
            .capacity = 9,
            .tokens = 9,
            .token_capacity = 9,
            .channels = 16}),
      make({.name = "base_width",
            .rows = 77,
            .capacity = 96,
            .tokens = 500,
            .token_capacity = 512,
            .channels = 768,
            .differences = false}),
  };
}

}  // namespace bert::test
