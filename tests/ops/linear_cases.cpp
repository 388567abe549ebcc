#include <cmath>

#include "tests/ops/op_cases.h"

namespace bert::test {
namespace {

std::string activation_name(Activation activation) {
  switch (activation) {
    case Activation::none:
      return "none";
    case Activation::gelu:
      return "gelu";
    case Activation::gelu_new:
      return "gelu_new";
    case Activation::tanh:
      return "tanh";
  }
  return "?";
}

struct Shape {
  std::string name{};
  std::int64_t rows, capacity, inputs, outputs;
  Activation activation = Activation::none;
  bool bias = true, want_dx = true, want_dweight = true, accumulate_dx = false;
  bool differences = true;
};

// y = activation(x W^T + bias); backward through activation_backward (in place) and the product.
OpCase make(const Shape& s) {
  OpCase c{.op = "linear", .name = s.name};
  c.fp8 = s.inputs % 16 == 0 && s.outputs % 16 == 0;
  const Rows rows{0, s.rows};
  const bool activated = s.activation != Activation::none;
  c.differences = s.differences;
  c.input("x", {s.capacity, s.inputs}, rows);
  c.input("weight", {s.outputs, s.inputs}, {}, 1.0 / std::sqrt(double(s.inputs)));
  if (s.bias) c.input("bias", {s.outputs});
  add_count(c, "rows", s.rows);
  if (activated) c.output("pre", {s.capacity, s.outputs}, rows, s.inputs);
  c.output("y", {s.capacity, s.outputs}, rows, s.inputs);
  c.upstream("dy", "y");
  if (activated) {  // not the gradient of an input: compared, not differenced
    c.gradient("dpre", "pre", s.inputs).memory_of = s.rows % 2 ? "dy" : "";
  }
  if (s.want_dx && s.accumulate_dx) c.accumulated("dx", "x", s.outputs + s.inputs);
  if (s.want_dx && !s.accumulate_dx) c.gradient("dx", "x", s.outputs + s.inputs);
  if (s.want_dweight) c.accumulated("dweight", "weight", s.rows + s.inputs);
  if (s.bias) c.accumulated("dbias", "bias", s.rows + s.inputs);
  c.forward = [s, activated](Ops& ops, const BoundCase& b) {
    ops.linear_forward({.x = b("x"),
                        .weight = {.master = b("weight"), .compute = b("weight")},
                        .bias = s.bias ? b("bias") : Tensor{},
                        .activation = s.activation,
                        .rows = b.count("rows"),
                        .pre_activation = activated ? b("pre") : Tensor{},
                        .y = b("y"),
                        .allow_fp8 = true});
  };
  c.backward = [s, activated](Ops& ops, const BoundCase& b) {
    if (activated) {
      ops.activation_backward({.dy = b("dy"),
                               .activation = s.activation,
                               .pre_activation = b("pre"),
                               .rows = b.count("rows"),
                               .dx = b("dpre")});
    }
    ops.linear_backward({.dy = b(activated ? "dpre" : "dy"),
                         .x = b("x"),
                         .weight = {.master = b("weight"), .compute = b("weight")},
                         .rows = b.count("rows"),
                         .dx = s.want_dx ? b("dx") : Tensor{},
                         .accumulate_dx = s.accumulate_dx,
                         .dweight = s.want_dweight ? b("dweight") : Tensor{},
                         .dbias = s.bias ? b("dbias") : Tensor{},
                         .allow_fp8 = true});
  };
  return c;
}

// Forward alone, as in evaluation: the pre-activation is not kept.
OpCase make_without_pre_activation() {
  OpCase c{.op = "linear", .name = "no_pre_activation"};
  c.input("x", {7, 12}, {0, 5});
  c.input("weight", {9, 12});
  c.input("bias", {9});
  add_count(c, "rows", 5);
  c.output("y", {7, 9}, {0, 5}, 12);
  c.forward = [](Ops& ops, const BoundCase& b) {
    ops.linear_forward({.x = b("x"),
                        .weight = {.master = b("weight"), .compute = b("weight")},
                        .bias = b("bias"),
                        .activation = Activation::gelu_new,
                        .rows = b.count("rows"),
                        .y = b("y"),
                        .allow_fp8 = true});
  };
  return c;
}

// The feed-forward pair: the second product's backward goes through the first one's activation.
OpCase make_feed_forward(Activation activation, std::int64_t rows_count, std::int64_t capacity,
                         std::int64_t hidden, std::int64_t inner, bool differences) {
  OpCase c{.op = "feed_forward",
           .name = activation_name(activation) + "_" + std::to_string(hidden) + "_" +
                   std::to_string(inner)};
  c.fp8 = hidden % 16 == 0 && inner % 16 == 0;
  const Rows rows{0, rows_count};
  c.differences = differences;
  c.input("x", {capacity, hidden}, rows);
  c.input("weight1", {inner, hidden}, {}, 1.5 / std::sqrt(double(hidden)));
  c.input("bias1", {inner});
  c.input("weight2", {hidden, inner}, {}, 1.0 / std::sqrt(double(inner)));
  c.input("bias2", {hidden});
  add_count(c, "rows", rows_count);
  c.output("pre", {capacity, inner}, rows, hidden);
  c.output("inner", {capacity, inner}, rows, hidden);
  c.output("y", {capacity, hidden}, rows, hidden + inner);
  c.upstream("dy", "y");
  c.gradient("dpre", "pre", hidden + inner);
  c.gradient("dx", "x", hidden + inner);
  c.accumulated("dweight1", "weight1", hidden + inner + rows_count);
  c.accumulated("dbias1", "bias1", hidden + inner + rows_count);
  c.accumulated("dweight2", "weight2", hidden + inner + rows_count);
  c.accumulated("dbias2", "bias2", hidden + inner + rows_count);
  c.forward = [activation](Ops& ops, const BoundCase& b) {
    ops.linear_forward({.x = b("x"),
                        .weight = {.master = b("weight1"), .compute = b("weight1")},
                        .bias = b("bias1"),
                        .activation = activation,
                        .rows = b.count("rows"),
                        .pre_activation = b("pre"),
                        .y = b("inner"),
                        .allow_fp8 = true});
    ops.linear_forward({.x = b("inner"),
                        .weight = {.master = b("weight2"), .compute = b("weight2")},
                        .bias = b("bias2"),
                        .rows = b.count("rows"),
                        .y = b("y"),
                        .allow_fp8 = true});
  };
  c.backward = [activation](Ops& ops, const BoundCase& b) {
    ops.linear_backward({.dy = b("dy"),
                         .x = b("inner"),
                         .weight = {.master = b("weight2"), .compute = b("weight2")},
                         .rows = b.count("rows"),
                         .input_activation = activation,
                         .input_pre_activation = b("pre"),
                         .dx = b("dpre"),
                         .dweight = b("dweight2"),
                         .dbias = b("dbias2"),
                         .allow_fp8 = true});
    ops.linear_backward({.dy = b("dpre"),
                         .x = b("x"),
                         .weight = {.master = b("weight1"), .compute = b("weight1")},
                         .rows = b.count("rows"),
                         .dx = b("dx"),
                         .dweight = b("dweight1"),
                         .dbias = b("dbias1"),
                         .allow_fp8 = true});
  };
  return c;
}

}  // namespace

std::vector<OpCase> linear_cases() {
  std::vector<OpCase> cases = {
      make({.name = "one_by_one", .rows = 1, .capacity = 1, .inputs = 1, .outputs = 1}),
      make({.name = "one_row", .rows = 1, .capacity = 1, .inputs = 8, .outputs = 16}),
      make({.name = "no_row_counts",
            .rows = 0,
            .capacity = 4,
            .inputs = 8,
            .outputs = 8,
            .differences = false}),
      make({.name = "odd", .rows = 7, .capacity = 9, .inputs = 33, .outputs = 17}),
      make(
          {.name = "no_bias", .rows = 6, .capacity = 8, .inputs = 10, .outputs = 7, .bias = false}),
      make({.name = "no_dx",
            .rows = 6,
            .capacity = 8,
            .inputs = 10,
            .outputs = 7,
            .want_dx = false}),
      make({.name = "frozen",
            .rows = 6,
            .capacity = 8,
            .inputs = 10,
            .outputs = 7,
            .bias = false,
            .want_dweight = false}),
      make({.name = "frozen_weight",
            .rows = 6,
            .capacity = 8,
            .inputs = 10,
            .outputs = 7,
            .want_dweight = false}),
      make({.name = "accumulate_dx",
            .rows = 5,
            .capacity = 6,
            .inputs = 12,
            .outputs = 20,
            .accumulate_dx = true}),
      make({.name = "larger",
            .rows = 130,
            .capacity = 150,
            .inputs = 100,
            .outputs = 301,
            .differences = false}),
      make({.name = "larger_gelu",
            .rows = 200,
            .capacity = 256,
            .inputs = 192,
            .outputs = 384,
            .activation = Activation::gelu,
            .differences = false}),
      make({.name = "sixteens",
            .rows = 41,
            .capacity = 48,
            .inputs = 80,
            .outputs = 48,
            .differences = false}),
      make({.name = "sixteens_odd_rows",
            .rows = 33,
            .capacity = 37,
            .inputs = 48,
            .outputs = 64,
            .accumulate_dx = true,
            .differences = false}),
      make({.name = "sixteens_no_dx",
            .rows = 30,
            .capacity = 32,
            .inputs = 32,
            .outputs = 16,
            .bias = false,
            .want_dx = false,
            .differences = false}),
      make({.name = "sixteens_frozen",
            .rows = 30,
            .capacity = 32,
            .inputs = 144,
            .outputs = 80,
            .bias = false,
            .want_dweight = false,
            .accumulate_dx = true,
            .differences = false}),
      make_without_pre_activation(),
      make_feed_forward(Activation::gelu, 60, 64, 48, 192, false),
      make_feed_forward(Activation::gelu_new, 60, 64, 48, 192, false),
  };
  for (const Activation activation : {Activation::gelu, Activation::gelu_new, Activation::tanh}) {
    for (const std::int64_t rows : {4, 5}) {  // with dpre beside dy, and in its place
      cases.push_back(make({.name = activation_name(activation) + (rows == 4 ? "" : "_in_place"),
                            .rows = rows,
                            .capacity = 7,
                            .inputs = 9,
                            .outputs = 13,
                            .activation = activation}));
    }
    cases.push_back(make_feed_forward(activation, 5, 6, 7, 15, true));
  }
  return cases;
}

}  // namespace bert::test
