// Every op of the CPU backend at the sizes of BERT-base and of a tiny BERT, beside what the machine
// reaches: GFLOP/s against a large product, GB/s (bytes that must move, each counted once) against
// a copy of memory. Figures above a copy's are those of tensors that stay in cache.
#include <functional>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>
#include <benchmark/benchmark.h>

#include "bench/bench_support.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/openmp_wait.h"
#include "runtime/program.h"

namespace bert::bench {
namespace {

// The sizes that a model and a micro-batch give the ops.
struct Sizes {
  const char* name;
  std::int64_t sequences, length;  // T = sequences * length
  std::int64_t C, heads, I, V, M, layers;
};
constexpr Sizes kSizes[] = {
    {"tiny", 32, 64, 128, 2, 512, 8000, 307, 2},
    {"base_T128", 8, 128, 768, 12, 3072, 30522, 154, 12},
    {"base_T512", 2, 512, 768, 12, 3072, 30522, 154, 12},
};

// What one run of a benchmark needs; made when it starts, so that only one's memory is held.
struct Bench {
  Bench(Ops& the_ops, Device& device, const Sizes& the_sizes)
      : ops(the_ops), s(the_sizes), memory(device) {
    T = s.sequences * s.length;
    tokens = packed_tokens(memory, s.sequences, s.length);
    dropout = {0.1f, 3, memory.value(DropoutKey{1, 2})};
    masked = memory.value(static_cast<std::int32_t>(s.M));
  }
  Ops& ops;
  const Sizes& s;
  Memory memory;
  std::int64_t T;
  PackedTokens tokens;
  Dropout dropout;
  DeviceCount masked;
};

// Work to time, with the FLOP of its products and the bytes it must move, whichever matters.
struct Work {
  std::function<void()> run;
  double flop = 0.0, bytes = 0.0;
};
using Maker = Work (*)(Bench&);

Work layer_norm_forward(Bench& b) {
  const LayerNormForward op{.x = b.memory.random({b.T, b.s.C}),
                            .gamma = b.memory.random({b.s.C}),
                            .beta = b.memory.random({b.s.C}),
                            .rows = b.tokens.num_tokens,
                            .y = b.memory.zeros(DType::f32, {b.T, b.s.C}),
                            .mean = b.memory.zeros(DType::f32, {b.T}),
                            .rstd = b.memory.zeros(DType::f32, {b.T})};
  return {[&b, op] { b.ops.layer_norm_forward(op); }, 0, 8.0 * double(b.T * b.s.C)};
}

Work layer_norm_backward(Bench& b) {
  const LayerNormBackward op{.dy = b.memory.random({b.T, b.s.C}),
                             .x = b.memory.random({b.T, b.s.C}),
                             .gamma = b.memory.random({b.s.C}),
                             .mean = b.memory.zeros(DType::f32, {b.T}),
                             .rstd = b.memory.random({b.T}),
                             .rows = b.tokens.num_tokens,
                             .dx = b.memory.zeros(DType::f32, {b.T, b.s.C}),
                             .dgamma = b.memory.zeros(DType::f32, {b.s.C}),
                             .dbeta = b.memory.zeros(DType::f32, {b.s.C})};
  return {[&b, op] { b.ops.layer_norm_backward(op); }, 0, 12.0 * double(b.T * b.s.C)};
}

Work residual_layer_norm_forward(Bench& b) {
  const BiasDropoutResidualLayerNormForward op{.x = b.memory.random({b.T, b.s.C}),
                                               .bias = b.memory.random({b.s.C}),
                                               .residual = b.memory.random({b.T, b.s.C}),
                                               .gamma = b.memory.random({b.s.C}),
                                               .beta = b.memory.random({b.s.C}),
                                               .dropout = b.dropout,
                                               .tokens = b.tokens,
                                               .z = b.memory.zeros(DType::f32, {b.T, b.s.C}),
                                               .y = b.memory.zeros(DType::f32, {b.T, b.s.C}),
                                               .mean = b.memory.zeros(DType::f32, {b.T}),
                                               .rstd = b.memory.zeros(DType::f32, {b.T})};
  return {[&b, op] { b.ops.bias_dropout_residual_layer_norm_forward(op); }, 0,
          16.0 * double(b.T * b.s.C)};
}

Work residual_layer_norm_backward(Bench& b) {
  const Tensor dy = b.memory.random({b.T, b.s.C});
  const BiasDropoutResidualLayerNormBackward op{
      .dy = dy,
      .z = b.memory.random({b.T, b.s.C}),
      .gamma = b.memory.random({b.s.C}),
      .mean = b.memory.zeros(DType::f32, {b.T}),
      .rstd = b.memory.random({b.T}),
      .dropout = b.dropout,
      .tokens = b.tokens,
      .dresidual = b.memory.zeros(DType::f32, {b.T, b.s.C}),
      .dx = b.memory.zeros(DType::f32, {b.T, b.s.C}),
      .dgamma = b.memory.zeros(DType::f32, {b.s.C}),
      .dbeta = b.memory.zeros(DType::f32, {b.s.C}),
      .dbias = b.memory.zeros(DType::f32, {b.s.C})};
  return {[&b, op] { b.ops.bias_dropout_residual_layer_norm_backward(op); }, 0,
          16.0 * double(b.T * b.s.C)};
}

Work embeddings_forward(Bench& b) {
  const EmbeddingsForward op{.input_ids = b.memory.random_ids(b.T, std::int32_t(b.s.V)),
                             .token_type_ids = b.memory.random_ids(b.T, 2),
                             .tokens = b.tokens,
                             .word = b.memory.random({b.s.V, b.s.C}),
                             .position = b.memory.random({512, b.s.C}),
                             .type = b.memory.random({2, b.s.C}),
                             .gamma = b.memory.random({b.s.C}),
                             .beta = b.memory.random({b.s.C}),
                             .dropout = b.dropout,
                             .y = b.memory.zeros(DType::f32, {b.T, b.s.C}),
                             .mean = b.memory.zeros(DType::f32, {b.T}),
                             .rstd = b.memory.zeros(DType::f32, {b.T})};
  return {[&b, op] { b.ops.embeddings_forward(op); }, 0, 16.0 * double(b.T * b.s.C)};
}

Work embeddings_backward(Bench& b) {
  const EmbeddingsBackward op{.input_ids = b.memory.random_ids(b.T, std::int32_t(b.s.V)),
                              .token_type_ids = b.memory.random_ids(b.T, 2),
                              .tokens = b.tokens,
                              .word = b.memory.random({b.s.V, b.s.C}),
                              .position = b.memory.random({512, b.s.C}),
                              .type = b.memory.random({2, b.s.C}),
                              .gamma = b.memory.random({b.s.C}, 0.1f),
                              .mean = b.memory.zeros(DType::f32, {b.T}),
                              .rstd = b.memory.random({b.T}),
                              .dropout = b.dropout,
                              .dy = b.memory.random({b.T, b.s.C}),
                              .dword = b.memory.zeros(DType::f32, {b.s.V, b.s.C}),
                              .dposition = b.memory.zeros(DType::f32, {512, b.s.C}),
                              .dtype = b.memory.zeros(DType::f32, {2, b.s.C}),
                              .dgamma = b.memory.zeros(DType::f32, {b.s.C}),
                              .dbeta = b.memory.zeros(DType::f32, {b.s.C})};
  return {[&b, op] { b.ops.embeddings_backward(op); }, 0, 32.0 * double(b.T * b.s.C)};
}

Work linear_forward_of(Bench& b, std::int64_t K, std::int64_t N, Activation activation) {
  const Tensor weight = b.memory.random({N, K}, 0.05f);
  const bool keep = activation != Activation::none;
  const LinearForward op{.x = b.memory.random({b.T, K}),
                         .weight = {weight, weight},
                         .bias = b.memory.random({N}),
                         .activation = activation,
                         .rows = b.tokens.num_tokens,
                         .pre_activation = keep ? b.memory.zeros(DType::f32, {b.T, N}) : Tensor{},
                         .y = b.memory.zeros(DType::f32, {b.T, N})};
  return {[&b, op] { b.ops.linear_forward(op); }, 2.0 * double(b.T * K * N)};
}
Work linear_forward_qkv(Bench& b) {
  return linear_forward_of(b, b.s.C, 3 * b.s.C, Activation::none);
}
Work linear_forward_gelu_new(Bench& b) {
  return linear_forward_of(b, b.s.C, b.s.I, Activation::gelu_new);
}
Work linear_forward_gelu(Bench& b) { return linear_forward_of(b, b.s.C, b.s.I, Activation::gelu); }

Work linear_backward_of(Bench& b, std::int64_t K, std::int64_t N, Activation activation) {
  const Tensor weight = b.memory.random({N, K}, 0.05f);
  const LinearBackward op{
      .dy = b.memory.random({b.T, N}),
      .x = b.memory.random({b.T, K}),
      .weight = {weight, weight},
      .rows = b.tokens.num_tokens,
      .input_activation = activation,
      .input_pre_activation = activation != Activation::none ? b.memory.random({b.T, K}) : Tensor{},
      .dx = b.memory.zeros(DType::f32, {b.T, K}),
      .dweight = b.memory.zeros(DType::f32, {N, K}),
      .dbias = b.memory.zeros(DType::f32, {N})};
  return {[&b, op] { b.ops.linear_backward(op); }, 4.0 * double(b.T * K * N)};
}
Work linear_backward_intermediate(Bench& b) {
  return linear_backward_of(b, b.s.C, b.s.I, Activation::none);
}
Work linear_backward_gelu_new(Bench& b) {
  return linear_backward_of(b, b.s.I, b.s.C, Activation::gelu_new);
}

Work attention_forward(Bench& b) {
  const AttentionForward op{.qkv = b.memory.random({b.T, 3 * b.s.C}),
                            .num_heads = b.s.heads,
                            .tokens = b.tokens,
                            .dropout = b.dropout,
                            .y = b.memory.zeros(DType::f32, {b.T, b.s.C}),
                            .lse = b.memory.zeros(DType::f32, {b.s.heads, b.T})};
  return {[&b, op] { b.ops.attention_forward(op); }, 4.0 * double(b.T * b.s.length * b.s.C)};
}

Work attention_backward(Bench& b) {
  const AttentionForward forward{.qkv = b.memory.random({b.T, 3 * b.s.C}),
                                 .num_heads = b.s.heads,
                                 .tokens = b.tokens,
                                 .dropout = b.dropout,
                                 .y = b.memory.zeros(DType::f32, {b.T, b.s.C}),
                                 .lse = b.memory.zeros(DType::f32, {b.s.heads, b.T})};
  b.ops.attention_forward(forward);
  const AttentionBackward op{.dy = b.memory.random({b.T, b.s.C}),
                             .y = forward.y,
                             .qkv = forward.qkv,
                             .lse = forward.lse,
                             .num_heads = b.s.heads,
                             .tokens = b.tokens,
                             .dropout = b.dropout,
                             .dqkv = b.memory.zeros(DType::f32, {b.T, 3 * b.s.C})};
  return {[&b, op] { b.ops.attention_backward(op); }, 10.0 * double(b.T * b.s.length * b.s.C)};
}

Work gather_rows(Bench& b) {
  const GatherRows op{.x = b.memory.random({b.T, b.s.C}),
                      .rows = b.memory.random_ids(b.s.M, std::int32_t(b.T)),
                      .count = b.masked,
                      .y = b.memory.zeros(DType::f32, {b.s.M, b.s.C})};
  return {[&b, op] { b.ops.gather_rows(op); }, 0, 8.0 * double(b.s.M * b.s.C)};
}

Work cross_entropy(Bench& b) {
  const CrossEntropy op{.logits = b.memory.random({b.s.M, b.s.V}, 4.0f),
                        .classes = b.s.V,
                        .targets = b.memory.random_ids(b.s.M, std::int32_t(b.s.V)),
                        .rows = b.masked,
                        .loss_scale = b.memory.value(1.0 / double(b.s.M)),
                        .sums = b.memory.value(LossSums{})};
  return {[&b, op] { b.ops.cross_entropy(op); }, 0, 8.0 * double(b.s.M * b.s.V)};
}

std::int64_t flat_parameters(const Sizes& s) {
  const std::int64_t layer = 4 * s.C * s.C + 2 * s.C * s.I;
  return (s.V * s.C + s.layers * layer) / AdamW::kBlock * AdamW::kBlock;
}

Work gradient_norm(Bench& b) {
  const std::int64_t P = flat_parameters(b.s);
  const ComputeGradientNorm op{
      .gradients = b.memory.random({P}), .max_norm = 1.0, .result = b.memory.value(GradientNorm{})};
  return {[&b, op] { b.ops.gradient_norm(op); }, 0, 4.0 * double(P)};
}

Work adamw(Bench& b) {
  const std::int64_t P = flat_parameters(b.s);
  const AdamW op{.parameters = b.memory.random({P}),
                 .gradients = b.memory.random({P}),
                 .m = b.memory.zeros(DType::f32, {P}),
                 .v = b.memory.zeros(DType::f32, {P}),
                 .decays = b.memory.zeros(DType::u8, {P / AdamW::kBlock}),
                 .step = b.memory.value(AdamWStep{1e-4, 0.1, 0.001}),
                 .norm = b.memory.value(GradientNorm{})};
  return {[&b, op] { b.ops.adamw(op); }, 0, 28.0 * double(P)};
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
    {"linear_forward/qkv", linear_forward_qkv},
    {"linear_forward/gelu_new", linear_forward_gelu_new},
    {"linear_forward/gelu", linear_forward_gelu},
    {"linear_backward/intermediate", linear_backward_intermediate},
    {"linear_backward/gelu_new", linear_backward_gelu_new},
    {"attention_forward", attention_forward},
    {"attention_backward", attention_backward},
    {"gather_rows", gather_rows},
    {"cross_entropy", cross_entropy},
    {"gradient_norm", gradient_norm},
    {"adamw", adamw},
};

void run(benchmark::State& state, const Named& named, const Sizes& sizes, int threads,
         const Ceilings& ceilings) {
  const std::unique_ptr<Device> device = make_cpu_device();
  const std::unique_ptr<Ops> ops = make_cpu_ops(threads);
  Bench bench(*ops, *device, sizes);
  const Work work = named.make(bench);
  work.run();  // scratch is allocated
  for (auto _ : state) work.run();
  const auto iterations = static_cast<double>(state.iterations());
  const auto rate = [&](double amount) {
    return benchmark::Counter(amount * iterations, benchmark::Counter::kIsRate);
  };
  if (work.flop > 0.0) {
    state.counters["GFLOP/s"] = rate(work.flop / 1e9);
    state.counters["of_gemm"] = rate(work.flop / ceilings.gemm_flops);
  }
  if (work.bytes > 0.0) {
    state.counters["GB/s"] = rate(work.bytes / 1e9);
    state.counters["of_copy"] = rate(work.bytes / ceilings.copy_bytes);
  }
}

int main_program(int argc, char** argv) {
  CLI::App app(
      "Times every op of the CPU backend; --benchmark_filter=REGEX and the other options "
      "of Google Benchmark work as usual.");
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  app.add_option("--threads", threads, "threads to use (default: all)")->check(CLI::Range(1, 1024));
  benchmark::Initialize(&argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    throw_input_error("{}; try --help", error.what());
  }
  const Ceilings ceilings = measure_ceilings(threads);
  benchmark::AddCustomContext("openblas", cpu::Blas::instance().description());
  benchmark::AddCustomContext("threads", std::to_string(threads));
  benchmark::AddCustomContext("gemm ceiling",
                              fmt::format("{:.0f} GFLOP/s", ceilings.gemm_flops / 1e9));
  benchmark::AddCustomContext("copy ceiling",
                              fmt::format("{:.1f} GB/s", ceilings.copy_bytes / 1e9));
  for (const Sizes& sizes : kSizes) {
    for (const Named& named : kBenchmarks) {
      benchmark::RegisterBenchmark(
          fmt::format("{}/{}", named.name, sizes.name).c_str(),
          [&](benchmark::State& state) { run(state, named, sizes, threads, ceilings); })
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace
}  // namespace bert::bench

int main(int argc, char** argv) {
  bert::cpu::limit_openmp_spinning(argv);
  return bert::run_program([&] { return bert::bench::main_program(argc, argv); });
}
