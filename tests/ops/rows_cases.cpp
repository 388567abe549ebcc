// gather_rows forward, scatter_add_rows as its backward; dropout_rows both ways.
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

OpCase make_dropout(const std::string& name, const Packing& packing, std::int64_t rows,
                    std::int64_t capacity, std::int64_t channels, bool differences = true) {
  OpCase c{.op = "dropout_rows", .name = name};
  const Rows picked{0, rows};
  c.dropout = 0.25;
  c.differences = differences;
  add_tokens(c, packing);
  c.integers("rows", {capacity}, picked,
             random_distinct(c.seed_of("rows"), rows, packing.rows().count));
  add_count(c, "count", rows);
  c.input("x", {capacity, channels}, picked);
  c.output("y", {capacity, channels}, picked, 1).memory_of = std::string("x");
  c.upstream("dy", "y");
  c.gradient("dx", "x", 1).memory_of = std::string("dy");
  const auto apply = [](Ops& ops, const BoundCase& b, const Tensor& x) {
    ops.dropout_rows({.x = x,
                      .rows = b("rows"),
                      .count = b.count("count"),
                      .dropout = b.dropout(kHeadDropoutSite),
                      .tokens = b.tokens()});
  };
  c.forward = [apply](Ops& ops, const BoundCase& b) { apply(ops, b, b("y")); };
  c.backward = [apply](Ops& ops, const BoundCase& b) { apply(ops, b, b("dx")); };
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
      make_dropout("some", {.lengths = {3, 1, 5}, .capacity = 12, .sequence_capacity = 5}, 4, 6,
                   24),
      make_dropout("odd_width", {.lengths = {2, 7}}, 9, 9, 13),
      make_dropout("base_width", {.lengths = {40, 7, 64}, .capacity = 128}, 50, 64, 768, false),
  };
}

}  // namespace bert::test
