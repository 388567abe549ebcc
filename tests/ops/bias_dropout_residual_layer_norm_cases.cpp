#include "tests/ops/op_cases.h"

namespace bert::test {
namespace {

constexpr std::uint32_t kSite = dropout_site(DropoutSite::feed_forward, 3);

struct Shape {
  std::string name{};
  Packing packing{};
  std::int64_t channels;
  double dropout = 0.1;
  bool pre_ln = false;         // z has a gradient of its own
  bool z_in_x = false;         // z lies in x
  std::string dresidual_in{};  // dresidual lies in dy or dz
  bool differences = true;
};

OpCase make(const Shape& s) {
  OpCase c{.op = "bias_dropout_residual_layer_norm", .name = s.name};
  const Rows rows = s.packing.rows();
  const std::int64_t t = s.packing.token_capacity(), n = s.channels;
  c.dropout = s.dropout;
  c.differences = s.differences;
  add_tokens(c, s.packing);
  c.input("x", {t, n}, rows);
  c.parameter("bias", {n});
  c.input("residual", {t, n}, rows);
  c.parameter("gamma", {n}, 0.5, 1.0);
  c.parameter("beta", {n});
  c.output("z", {t, n}, rows, 1).memory_of = std::string(s.z_in_x ? "x" : "");
  c.output("y", {t, n}, rows, n);
  c.statistics("mean", {t}, rows, n);
  c.statistics("rstd", {t}, rows, n);
  c.upstream("dy", "y");
  if (s.pre_ln) c.upstream("dz", "z");
  c.gradient("dresidual", "residual", n).memory_of = s.dresidual_in;
  c.gradient("dx", "x", n);
  c.accumulated("dgamma", "gamma", n + rows.count);
  c.accumulated("dbeta", "beta", rows.count);
  c.accumulated("dbias", "bias", n + rows.count);
  c.forward = [](Ops& ops, const BoundCase& b) {
    ops.bias_dropout_residual_layer_norm_forward({.x = b("x"),
                                                  .bias = b("bias"),
                                                  .residual = b("residual"),
                                                  .gamma = b("gamma"),
                                                  .beta = b("beta"),
                                                  .epsilon = 1e-12,
                                                  .dropout = b.dropout(kSite),
                                                  .tokens = b.tokens(),
                                                  .z = b("z"),
                                                  .y = b("y"),
                                                  .mean = b("mean"),
                                                  .rstd = b("rstd")});
  };
  c.backward = [pre_ln = s.pre_ln](Ops& ops, const BoundCase& b) {
    ops.bias_dropout_residual_layer_norm_backward({.dy = b("dy"),
                                                   .dz = pre_ln ? b("dz") : Tensor{},
                                                   .z = b("z"),
                                                   .gamma = b("gamma"),
                                                   .mean = b("mean"),
                                                   .rstd = b("rstd"),
                                                   .dropout = b.dropout(kSite),
                                                   .tokens = b.tokens(),
                                                   .dresidual = b("dresidual"),
                                                   .dx = b("dx"),
                                                   .dgamma = b("dgamma"),
                                                   .dbeta = b("dbeta"),
                                                   .dbias = b("dbias")});
  };
  return c;
}

}  // namespace

std::vector<OpCase> bias_dropout_residual_layer_norm_cases() {
  const Packing several{.lengths = {3, 1, 5}, .capacity = 12, .sequence_capacity = 5};
  return {
      make({.name = "one_token", .packing = {.lengths = {1}}, .channels = 8}),
      make({.name = "post_ln", .packing = several, .channels = 33}),
      make({.name = "post_ln_no_dropout", .packing = several, .channels = 16, .dropout = 0.0}),
      make({.name = "post_ln_in_place",
            .packing = several,
            .channels = 20,
            .dropout = 0.5,
            .z_in_x = true,
            .dresidual_in = "dy"}),
      make({.name = "pre_ln", .packing = several, .channels = 24, .pre_ln = true}),
      make({.name = "pre_ln_in_dz",
            .packing = several,
            .channels = 17,
            .pre_ln = true,
            .z_in_x = true,
            .dresidual_in = "dz"}),
      make({.name = "pre_ln_in_dy",
            .packing = several,
            .channels = 40,
            .dropout = 0.3,
            .pre_ln = true,
            .dresidual_in = "dy"}),
      make({.name = "base_width",
            .packing = {.lengths = {40, 7, 64}, .capacity = 128},
            .channels = 768,
            .differences = false}),
      make({.name = "large_width",
            .packing = several,
            .channels = 1024,
            .dresidual_in = "dy",
            .differences = false}),
      make({.name = "pre_ln_width_1288",
            .packing = several,
            .channels = 1288,
            .pre_ln = true,
            .dresidual_in = "dz",
            .differences = false}),
      make({.name = "odd_width_1061", .packing = several, .channels = 1061, .differences = false}),
      make({.name = "many_tokens",
            .packing = {.lengths = {128, 128, 100, 3, 77}, .capacity = 512},
            .channels = 100,
            .pre_ln = true,
            .differences = false}),
      make({.name = "width_256", .packing = several, .channels = 256, .differences = false}),
      make({.name = "pre_ln_width_512",
            .packing = several,
            .channels = 512,
            .pre_ln = true,
            .differences = false}),
      // A warp of a GPU, or a block, has more than 32 rows.
      make({.name = "long_walk",
            .packing = {.lengths = {512, 500, 3, 385}, .capacity = 1408},
            .channels = 16,
            .dresidual_in = "dy",
            .differences = false}),
      make({.name = "long_walk_of_blocks",
            .packing = {.lengths = {64, 7}, .capacity = 74},
            .channels = 1032,
            .pre_ln = true,
            .differences = false}),
  };
}

}  // namespace bert::test
