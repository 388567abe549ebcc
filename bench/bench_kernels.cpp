// Every op at the sizes of BERT-base, BERT-large and a tiny BERT, on a CPU or a GPU, beside what
// the machine reaches: FLOP/s against a large product, bytes/s (those that must move, each counted
// once) against a copy of memory. Figures above a copy's are those of tensors that stay in cache.
#include <algorithm>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>

#include "bench/bench_support.h"
#include "kernels/cpu_module.h"
#include "runtime/command_line.h"
#include "runtime/program.h"
#include "train/profile/ceilings.h"
#include "train/profile/op_work.h"

namespace bert::bench {
namespace {

// The sizes that a model and a micro-batch give the ops.
struct Sizes {
  const char* name;
  std::int64_t tokens;  // of a micro-batch, where none are asked for
  std::int64_t length;
  std::int64_t C, heads, I, V, layers;
};
constexpr Sizes kCpuSizes[] = {
    {"tiny", 2048, 64, 128, 2, 512, 8000, 2},
    {"base_T128", 1024, 128, 768, 12, 3072, 30522, 12},
    {"base_T512", 1024, 512, 768, 12, 3072, 30522, 12},
    {"large_T128", 1024, 128, 1024, 16, 4096, 30522, 24},
    {"large_T512", 1024, 512, 1024, 16, 4096, 30522, 24},
};
constexpr Sizes kGpuSizes[] = {
    {"base_T128", 32768, 128, 768, 12, 3072, 30522, 12},
    {"base_T512", 32768, 512, 768, 12, 3072, 30522, 12},
    {"large_T128", 32768, 128, 1024, 16, 4096, 30522, 24},
    {"large_T512", 32768, 512, 1024, 16, 4096, 30522, 24},
};

// What one run of a benchmark needs; made when it starts, so that only one's memory is held.
struct Bench {
  Bench(const Backend& backend, const Sizes& the_sizes, std::int64_t the_tokens)
      : ops(*backend.ops), s(the_sizes), memory(*backend.device), real(ops.dtype()) {
    const std::int64_t sequences = std::max<std::int64_t>(1, the_tokens / s.length);
    T = sequences * s.length;
    M = std::max<std::int64_t>(1, (15 * T + 50) / 100);
    V = (s.V + 7) / 8 * 8;
    element = static_cast<double>(dtype_size(real));
    tokens = packed_tokens(memory, Lengths(static_cast<std::size_t>(sequences), s.length));
    dropout = {0.1f, 3, memory.value(DropoutKey{1, 2})};
    masked = memory.value(static_cast<std::int32_t>(M));
  }
  // An activation or a product's operand, and room for one.
  Tensor input(std::initializer_list<std::int64_t> shape, float scale = 1.0f) {
    return memory.random(shape, scale, real);
  }
  Tensor output(std::initializer_list<std::int64_t> shape) { return memory.zeros(real, shape); }
  Tensor statistics(std::initializer_list<std::int64_t> shape) {
    return memory.zeros(DType::f32, shape);
  }

  Ops& ops;
  const Sizes& s;
  Memory memory;
  const DType real;
  std::int64_t T, M, V;  // V: padded to what products like
  double element;        // bytes of `real`
  PackedTokens tokens;
  Dropout dropout;
  DeviceCount masked;
};

// Work to time, with what it has to do (train/profile/op_work.h).
struct Work {
  std::function<void()> run;
  double flop = 0.0, bytes = 0.0;
};
using Maker = Work (*)(Bench&);

template <typename Op>
Work work(Bench& b, void (Ops::*call)(const Op&), const Op& op) {
  // Of all rows, as all count here.
  const OpWork of = work_of(op, /*read_counts=*/false);
  return {[&b, call, op] { (b.ops.*call)(op); }, of.flop, of.bytes};
}

Work layer_norm_forward(Bench& b) {
  const LayerNormForward op{.x = b.input({b.T, b.s.C}),
                            .gamma = b.memory.random({b.s.C}),
                            .beta = b.memory.random({b.s.C}),
                            .rows = b.tokens.num_tokens,
                            .y = b.output({b.T, b.s.C}),
                            .mean = b.statistics({b.T}),
                            .rstd = b.statistics({b.T})};
  return work(b, &Ops::layer_norm_forward, op);
}

Work layer_norm_backward(Bench& b) {
  const LayerNormBackward op{.dy = b.input({b.T, b.s.C}),
                             .x = b.input({b.T, b.s.C}),
                             .gamma = b.memory.random({b.s.C}),
                             .mean = b.statistics({b.T}),
                             .rstd = b.memory.random({b.T}),
                             .rows = b.tokens.num_tokens,
                             .dx = b.output({b.T, b.s.C}),
                             .dgamma = b.statistics({b.s.C}),
                             .dbeta = b.statistics({b.s.C})};
  return work(b, &Ops::layer_norm_backward, op);
}

Work residual_layer_norm_forward(Bench& b) {
  const BiasDropoutResidualLayerNormForward op{.x = b.input({b.T, b.s.C}),
                                               .bias = b.memory.random({b.s.C}),
                                               .residual = b.input({b.T, b.s.C}),
                                               .gamma = b.memory.random({b.s.C}),
                                               .beta = b.memory.random({b.s.C}),
                                               .dropout = b.dropout,
                                               .tokens = b.tokens,
                                               .z = b.output({b.T, b.s.C}),
                                               .y = b.output({b.T, b.s.C}),
                                               .mean = b.statistics({b.T}),
                                               .rstd = b.statistics({b.T})};
  return work(b, &Ops::bias_dropout_residual_layer_norm_forward, op);
}

Work residual_layer_norm_backward(Bench& b) {
  const Tensor dy = b.input({b.T, b.s.C});
  const BiasDropoutResidualLayerNormBackward op{.dy = dy,
                                                .z = b.input({b.T, b.s.C}),
                                                .gamma = b.memory.random({b.s.C}),
                                                .mean = b.statistics({b.T}),
                                                .rstd = b.memory.random({b.T}),
                                                .dropout = b.dropout,
                                                .tokens = b.tokens,
                                                .dresidual = b.output({b.T, b.s.C}),
                                                .dx = b.output({b.T, b.s.C}),
                                                .dgamma = b.statistics({b.s.C}),
                                                .dbeta = b.statistics({b.s.C}),
                                                .dbias = b.statistics({b.s.C})};
  return work(b, &Ops::bias_dropout_residual_layer_norm_backward, op);
}

Work embeddings_forward(Bench& b) {
  const EmbeddingsForward op{.input_ids = b.memory.random_ids(b.T, std::int32_t(b.s.V)),
                             .token_type_ids = b.memory.random_ids(b.T, 2),
                             .tokens = b.tokens,
                             .word = b.input({b.s.V, b.s.C}),
                             .position = b.input({512, b.s.C}),
                             .type = b.input({2, b.s.C}),
                             .gamma = b.memory.random({b.s.C}),
                             .beta = b.memory.random({b.s.C}),
                             .dropout = b.dropout,
                             .y = b.output({b.T, b.s.C}),
                             .mean = b.statistics({b.T}),
                             .rstd = b.statistics({b.T})};
  return work(b, &Ops::embeddings_forward, op);
}

Work embeddings_backward(Bench& b) {
  const EmbeddingsBackward op{.input_ids = b.memory.random_ids(b.T, std::int32_t(b.s.V)),
                              .token_type_ids = b.memory.random_ids(b.T, 2),
                              .tokens = b.tokens,
                              .word = b.input({b.s.V, b.s.C}),
                              .position = b.input({512, b.s.C}),
                              .type = b.input({2, b.s.C}),
                              .gamma = b.memory.random({b.s.C}, 0.1f),
                              .mean = b.statistics({b.T}),
                              .rstd = b.memory.random({b.T}),
                              .dropout = b.dropout,
                              .dy = b.input({b.T, b.s.C}),
                              .dword = b.statistics({b.s.V, b.s.C}),
                              .dposition = b.statistics({512, b.s.C}),
                              .dtype = b.statistics({2, b.s.C}),
                              .dgamma = b.statistics({b.s.C}),
                              .dbeta = b.statistics({b.s.C})};
  return work(b, &Ops::embeddings_backward, op);
}

// The products of a layer and of the MLM head: [R, K] times the transpose of [N, K].
struct Product {
  const char* name;
  std::int64_t (*R)(const Bench&);  // all_tokens: one of the encoder, in FP8 where that is on
  std::int64_t (*K)(const Sizes&);
  std::int64_t (*N)(const Bench&);
  Activation output, input;  // after it, and what its input came out of
};
std::int64_t all_tokens(const Bench& b) { return b.T; }
std::int64_t masked_tokens(const Bench& b) { return b.M; }
constexpr Product kProducts[] = {
    {"qkv", all_tokens, [](const Sizes& s) { return s.C; },
     [](const Bench& b) { return 3 * b.s.C; }, Activation::none, Activation::none},
    {"attention_output", all_tokens, [](const Sizes& s) { return s.C; },
     [](const Bench& b) { return b.s.C; }, Activation::none, Activation::none},
    {"intermediate_gelu_new", all_tokens, [](const Sizes& s) { return s.C; },
     [](const Bench& b) { return b.s.I; }, Activation::gelu_new, Activation::none},
    {"intermediate_gelu", all_tokens, [](const Sizes& s) { return s.C; },
     [](const Bench& b) { return b.s.I; }, Activation::gelu, Activation::none},
    {"output_gelu_new", all_tokens, [](const Sizes& s) { return s.I; },
     [](const Bench& b) { return b.s.C; }, Activation::none, Activation::gelu_new},
    {"output_gelu", all_tokens, [](const Sizes& s) { return s.I; },
     [](const Bench& b) { return b.s.C; }, Activation::none, Activation::gelu},
    {"decoder", masked_tokens, [](const Sizes& s) { return s.C; },
     [](const Bench& b) { return b.V; }, Activation::none, Activation::none},
};

Work linear_forward(Bench& b, const Product& product) {
  const std::int64_t R = product.R(b), K = product.K(b.s), N = product.N(b);
  const Tensor weight = b.input({N, K}, 0.05f);
  const bool keep = product.output != Activation::none;
  const LinearForward op{.x = b.input({R, K}),
                         .weight = {weight, weight},
                         .bias = b.input({N}),
                         .activation = product.output,
                         .rows = b.memory.value(static_cast<std::int32_t>(R)),
                         .pre_activation = keep ? b.output({R, N}) : Tensor{},
                         .y = b.output({R, N}),
                         .allow_fp8 = product.R == all_tokens};
  return work(b, &Ops::linear_forward, op);
}

Work linear_backward(Bench& b, const Product& product) {
  const std::int64_t R = product.R(b), K = product.K(b.s), N = product.N(b);
  const Tensor weight = b.input({N, K}, 0.05f);
  const LinearBackward op{
      .dy = b.input({R, N}),
      .x = b.input({R, K}),
      .weight = {weight, weight},
      .rows = b.memory.value(static_cast<std::int32_t>(R)),
      .input_activation = product.input,
      .input_pre_activation = product.input != Activation::none ? b.input({R, K}) : Tensor{},
      .dx = b.output({R, K}),
      .dweight = b.statistics({N, K}),
      .dbias = b.statistics({N}),
      .allow_fp8 = product.R == all_tokens};
  return work(b, &Ops::linear_backward, op);
}

Work attention_forward(Bench& b) {
  const AttentionForward op{.qkv = b.input({b.T, 3 * b.s.C}),
                            .num_heads = b.s.heads,
                            .tokens = b.tokens,
                            .dropout = b.dropout,
                            .y = b.output({b.T, b.s.C}),
                            .lse = b.statistics({b.s.heads, b.T})};
  return work(b, &Ops::attention_forward, op);
}

Work attention_backward(Bench& b) {
  const AttentionForward forward{.qkv = b.input({b.T, 3 * b.s.C}),
                                 .num_heads = b.s.heads,
                                 .tokens = b.tokens,
                                 .dropout = b.dropout,
                                 .y = b.output({b.T, b.s.C}),
                                 .lse = b.statistics({b.s.heads, b.T})};
  b.ops.attention_forward(forward);
  const AttentionBackward op{.dy = b.input({b.T, b.s.C}),
                             .y = forward.y,
                             .qkv = forward.qkv,
                             .lse = forward.lse,
                             .num_heads = b.s.heads,
                             .tokens = b.tokens,
                             .dropout = b.dropout,
                             .dqkv = b.output({b.T, 3 * b.s.C})};
  return work(b, &Ops::attention_backward, op);
}

Work gather_rows(Bench& b) {
  const GatherRows op{.x = b.input({b.T, b.s.C}),
                      .rows = b.memory.random_ids(b.M, std::int32_t(b.T)),
                      .count = b.masked,
                      .y = b.output({b.M, b.s.C})};
  return work(b, &Ops::gather_rows, op);
}

Work scatter_add_rows(Bench& b) {
  std::vector<std::int32_t> rows;  // distinct
  for (std::int64_t i = 0; i < b.M; ++i) rows.push_back(std::int32_t(i * b.T / b.M));
  const ScatterAddRows op{.y = b.input({b.M, b.s.C}),
                          .rows = b.memory.i32(rows),
                          .count = b.masked,
                          .x = b.output({b.T, b.s.C})};
  return work(b, &Ops::scatter_add_rows, op);
}

Work cross_entropy(Bench& b) {
  const CrossEntropy op{.logits = b.input({b.M, b.V}, 4.0f),
                        .classes = b.s.V,
                        .targets = b.memory.random_ids(b.M, std::int32_t(b.s.V)),
                        .rows = b.masked,
                        .loss_scale = b.memory.value(1.0 / double(b.M)),
                        .sums = b.memory.value(LossSums{})};
  return work(b, &Ops::cross_entropy, op);
}

Work squared_error(Bench& b) {
  const std::int64_t rows = b.tokens.sequence_index.rows();
  const SquaredError op{.predictions = b.input({rows, 8}),
                        .targets = b.memory.random({rows}),
                        .rows = b.tokens.num_sequences,
                        .loss_scale = b.memory.value(1.0 / double(rows)),
                        .sums = b.memory.value(LossSums{})};
  return work(b, &Ops::squared_error, op);
}

Work span_cross_entropy(Bench& b) {
  const std::int64_t sequences = b.tokens.sequence_index.rows();
  const SpanCrossEntropy op{.logits = b.input({b.T, 8}),
                            .tokens = b.tokens,
                            .targets = b.memory.random_ids(2 * sequences, std::int32_t(b.s.length)),
                            .loss_scale = b.memory.value(0.5 / double(sequences)),
                            .sums = b.memory.value(LossSums{})};
  return work(b, &Ops::span_cross_entropy, op);
}

std::int64_t flat_parameters(const Sizes& s) {
  const std::int64_t layer = 4 * s.C * s.C + 2 * s.C * s.I;
  return (s.V * s.C + s.layers * layer) / AdamW::kBlock * AdamW::kBlock;
}

Work zero(Bench& b) {
  const Tensor gradients = b.statistics({flat_parameters(b.s)});
  return work(b, &Ops::zero, gradients);
}

Work add_fixed_point(Bench& b) {
  const std::int64_t P = flat_parameters(b.s);
  const AddFixedPoint op{.x = b.memory.random({P}),
                         .sums = b.memory.zeros(DType::i64, {P}),
                         .fixed = b.memory.value(FixedPoint{.unit = 0x1p-50})};
  return work(b, &Ops::add_fixed_point, op);
}

Work read_fixed_point(Bench& b) {
  const std::int64_t P = flat_parameters(b.s);
  const ReadFixedPoint op{.sums = b.memory.zeros(DType::i64, {P}),
                          .x = b.statistics({P}),
                          .fixed = b.memory.value(FixedPoint{})};
  return work(b, &Ops::read_fixed_point, op);
}

Work gradient_norm(Bench& b) {
  const std::int64_t P = flat_parameters(b.s);
  const ComputeGradientNorm op{
      .gradients = b.memory.random({P}), .max_norm = 1.0, .result = b.memory.value(GradientNorm{})};
  return work(b, &Ops::gradient_norm, op);
}

Work adamw(Bench& b) {
  const std::int64_t P = flat_parameters(b.s);
  const bool copies = b.real != DType::f32;
  const AdamW op{.parameters = b.memory.random({P}),
                 .gradients = b.memory.random({P}),
                 .m = b.statistics({P}),
                 .v = b.statistics({P}),
                 .compute = copies ? b.output({P}) : Tensor{},
                 .decays = b.memory.zeros(DType::u8, {P / AdamW::kBlock}),
                 .step = b.memory.value(AdamWStep{1e-4, 0.1, 0.001}),
                 .norm = b.memory.value(GradientNorm{})};
  return work(b, &Ops::adamw, op);
}

struct Named {
  const char* name;
  Maker make;
};
constexpr Named kBenchmarks[] = {
    {"embeddings_forward", embeddings_forward},
    {"embeddings_backward", embeddings_backward},
    {"layer_norm_forward", layer_norm_forward},
    {"layer_norm_backward", layer_norm_backward},
    {"bias_dropout_residual_layer_norm_forward", residual_layer_norm_forward},
    {"bias_dropout_residual_layer_norm_backward", residual_layer_norm_backward},
    {"attention_forward", attention_forward},
    {"attention_backward", attention_backward},
    {"gather_rows", gather_rows},
    {"scatter_add_rows", scatter_add_rows},
    {"cross_entropy", cross_entropy},
    {"squared_error", squared_error},
    {"span_cross_entropy", span_cross_entropy},
    {"zero", zero},
    {"add_fixed_point", add_fixed_point},
    {"read_fixed_point", read_fixed_point},
    {"gradient_norm", gradient_norm},
    {"adamw", adamw},
};

// A GPU is given so many calls before it is waited for, and that so often: enough for a steady
// figure, and all ops together take well below a minute.
constexpr int kQueued = 20;
constexpr int kGpuIterations = 5;

template <typename Make>
void run(benchmark::State& state, Make&& make, const Backend& backend, const Sizes& sizes,
         std::int64_t tokens, const Ceilings& ceilings) {
  Bench bench(backend, sizes, tokens);
  const Work work = make(bench);
  work.run();  // scratch is allocated, products are chosen
  const int queued = backend.is_cpu() ? 1 : kQueued;
  double total = 0.0;
  for (auto _ : state) {
    const double seconds = seconds_of(*backend.device,
                                      [&] {
                                        for (int i = 0; i < queued; ++i) work.run();
                                      }) /
                           queued;
    state.SetIterationTime(seconds);
    total += seconds;
  }
  const double calls_per_second = static_cast<double>(state.iterations()) / total;
  if (work.flop > 0.0) {
    state.counters["FLOP/s"] = work.flop * calls_per_second;
    state.counters["of_gemm"] = work.flop * calls_per_second / ceilings.product_flops;
  }
  if (work.bytes > 0.0) {
    state.counters["B/s"] = work.bytes * calls_per_second;
    state.counters["of_copy"] = work.bytes * calls_per_second / ceilings.copy_bytes;
  }
}

int main_program(int argc, char** argv) {
  CommandLine line(
      "Times every op of a backend; --benchmark_filter=REGEX and the other options of Google "
      "Benchmark work as usual.",
      "bench_kernels");
  BackendChoice choice;
  choice.threads = static_cast<int>(std::thread::hardware_concurrency());
  std::optional<std::int64_t> tokens;
  line.add("--device", choice.device, "cpu or cuda").one_of({"cpu", "cuda"});
  line.add("--precision", choice.precision, "auto, fp32, tf32, bf16 or fp8")
      .one_of({"auto", "fp32", "tf32", "bf16", "fp8"});
  line.add("--threads", choice.threads, "threads of the CPU to use").range(1, 1024);
  line.add("--tokens", tokens,
           "tokens of a micro-batch (default: 1024 on a CPU, 2048 of the tiny model; 32768 on "
           "a GPU)")
      .range(1, 1 << 20);
  benchmark::Initialize(&argc, argv);
  if (const auto done = line.parse(argc, argv)) return *done;
  const Backend backend = open_backend(choice);
  const Ceilings ceilings = measure_ceilings(*backend.ops, *backend.device, choice.threads);
  benchmark::AddCustomContext("device", backend.device->name());
  benchmark::AddCustomContext("ops", backend.ops->name());
  if (backend.is_cpu()) {
    benchmark::AddCustomContext("threads", std::to_string(choice.threads));
  }
  benchmark::AddCustomContext("precision", backend.precision);
  benchmark::AddCustomContext("gemm ceiling",
                              fmt::format("{:.0f} GFLOP/s", ceilings.product_flops / 1e9));
  benchmark::AddCustomContext("copy ceiling",
                              fmt::format("{:.1f} GB/s", ceilings.copy_bytes / 1e9));
  const auto add = [&](const std::string& name, const Sizes& sizes, auto make) {
    auto* const benchmark = benchmark::RegisterBenchmark(
        fmt::format("{}/{}", name, sizes.name).c_str(), [&, make](benchmark::State& state) {
          run(state, make, backend, sizes, tokens.value_or(sizes.tokens), ceilings);
        });
    benchmark->UseManualTime()->Unit(benchmark::kMicrosecond);
    if (!backend.is_cpu()) benchmark->Iterations(kGpuIterations);
  };
  const std::span<const Sizes> all_sizes =
      backend.is_cpu() ? std::span<const Sizes>(kCpuSizes) : std::span<const Sizes>(kGpuSizes);
  for (const Sizes& sizes : all_sizes) {
    for (const Named& named : kBenchmarks) add(named.name, sizes, named.make);
    for (const Product& product : kProducts) {
      const std::string name = product.name;
      // Forward, where the input came from is all one; backward, what becomes of the output.
      if (product.input != Activation::gelu) {
        add("linear_forward/" + name, sizes,
            [&product](Bench& b) { return linear_forward(b, product); });
      }
      if (product.output != Activation::gelu) {
        add("linear_backward/" + name, sizes,
            [&product](Bench& b) { return linear_backward(b, product); });
      }
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace
}  // namespace bert::bench

int main(int argc, char** argv) {
  bert::limit_openmp_spinning();
  return bert::run_program([&] { return bert::bench::main_program(argc, argv); });
}
