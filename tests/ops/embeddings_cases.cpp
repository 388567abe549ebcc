#include "tests/ops/op_cases.h"
#include "tests/support/random_inputs.h"

namespace bert::test {
namespace {

struct Shape {
  std::string name{};
  Packing packing{};
  std::int64_t vocabulary, positions, channels;
  bool layer_norm = true;
  double dropout = 0.1;
  bool differences = true;
  std::int64_t types = 2;
};

OpCase make(const Shape& s) {
  OpCase c{.op = "embeddings", .name = s.name};
  const Rows rows = s.packing.rows();
  const std::int64_t t = s.packing.token_capacity(), n = s.channels;
  c.dropout = s.dropout;
  c.differences = s.differences;
  add_tokens(c, s.packing);
  c.integers("input_ids", {t}, rows, random_integers(c.seed_of("input_ids"), t, s.vocabulary));
  c.integers("token_type_ids", {t}, rows, random_integers(c.seed_of("token_type_ids"), t, s.types));
  c.input("word", {s.vocabulary, n});
  c.input("position", {s.positions, n});
  c.input("type", {s.types, n});
  c.output("y", {t, n}, rows, n);
  c.upstream("dy", "y").scratch = true;
  if (s.layer_norm) {
    c.parameter("gamma", {n}, 0.5, 1.0);
    c.parameter("beta", {n});
    c.statistics("mean", {t}, rows, n);
    c.statistics("rstd", {t}, rows, n);
    c.accumulated("dgamma", "gamma", n + rows.count);
    c.accumulated("dbeta", "beta", rows.count);
  }
  // A frequent word, a position or a type sums up to all rows.
  c.accumulated("dword", "word", n + rows.count);
  c.accumulated("dposition", "position", n + rows.count);
  c.accumulated("dtype", "type", n + rows.count);
  c.forward = [ln = s.layer_norm](Ops& ops, const BoundCase& b) {
    EmbeddingsForward op{.input_ids = b("input_ids"),
                         .token_type_ids = b("token_type_ids"),
                         .tokens = b.tokens(),
                         .word = b("word"),
                         .position = b("position"),
                         .type = b("type"),
                         .epsilon = 1e-12,
                         .dropout = b.dropout(dropout_site(DropoutSite::embeddings)),
                         .y = b("y")};
    if (ln) {
      op.gamma = b("gamma");
      op.beta = b("beta");
      op.mean = b("mean");
      op.rstd = b("rstd");
    }
    ops.embeddings_forward(op);
  };
  c.backward = [ln = s.layer_norm](Ops& ops, const BoundCase& b) {
    EmbeddingsBackward op{.input_ids = b("input_ids"),
                          .token_type_ids = b("token_type_ids"),
                          .tokens = b.tokens(),
                          .word = b("word"),
                          .position = b("position"),
                          .type = b("type"),
                          .dropout = b.dropout(dropout_site(DropoutSite::embeddings)),
                          .dy = b("dy"),
                          .dword = b("dword"),
                          .dposition = b("dposition"),
                          .dtype = b("dtype")};
    if (ln) {
      op.gamma = b("gamma");
      op.mean = b("mean");
      op.rstd = b("rstd");
      op.dgamma = b("dgamma");
      op.dbeta = b("dbeta");
    }
    ops.embeddings_backward(op);
  };
  return c;
}

}  // namespace

std::vector<OpCase> embeddings_cases() {
  const Packing several{.lengths = {5, 1, 7}, .capacity = 16, .sequence_capacity = 4};
  return {
      make({.name = "one_token",
            .packing = {.lengths = {1}},
            .vocabulary = 3,
            .positions = 2,
            .channels = 8}),
      make({.name = "several",
            .packing = several,
            .vocabulary = 11,
            .positions = 9,
            .channels = 21}),
      make({.name = "no_dropout",
            .packing = several,
            .vocabulary = 7,
            .positions = 7,
            .channels = 16,
            .dropout = 0.0}),
      make({.name = "pre_ln",
            .packing = several,
            .vocabulary = 11,
            .positions = 9,
            .channels = 24,
            .layer_norm = false,
            .dropout = 0.4}),
      make({.name = "no_tokens",
            .packing = {.lengths = {}, .capacity = 3, .sequence_capacity = 2},
            .vocabulary = 3,
            .positions = 4,
            .channels = 16,
            .differences = false}),
      make({.name = "one_type",
            .packing = several,
            .vocabulary = 11,
            .positions = 9,
            .channels = 40,
            .types = 1}),
      make({.name = "five_types",
            .packing = several,
            .vocabulary = 11,
            .positions = 9,
            .channels = 24,
            .types = 5}),
      make({.name = "large_width",
            .packing = several,
            .vocabulary = 7,
            .positions = 9,
            .channels = 1024,
            .differences = false}),
      make({.name = "pre_ln_width_1288",
            .packing = several,
            .vocabulary = 7,
            .positions = 9,
            .channels = 1288,
            .layer_norm = false,
            .differences = false}),
      make({.name = "odd_width_1061",
            .packing = several,
            .vocabulary = 7,
            .positions = 9,
            .channels = 1061,
            .differences = false}),
      // Words in runs of all lengths, more tokens than are sorted at once.
      make({.name = "many_tokens",
            .packing = {.lengths = {128, 128, 1, 128, 128, 128, 100, 128, 128, 128, 128, 9},
                        .capacity = 1280},
            .vocabulary = 90,
            .positions = 130,
            .channels = 8,
            .differences = false}),
      make({.name = "base_width",
            .packing = {.lengths = {64, 100, 9}, .capacity = 192},
            .vocabulary = 997,
            .positions = 128,
            .channels = 768,
            .differences = false}),
      make({.name = "one_word_repeated",
            .packing = {.lengths = {300, 200}, .capacity = 512},
            .vocabulary = 2,
            .positions = 300,
            .channels = 36,
            .differences = false}),
  };
}

}  // namespace bert::test
