// One test case of an op, declared once: its tensors and how forward and backward use them. The
// harness (op_harness.h) runs it on every backend and against finite differences.
//
// The loss of a case is the sum over its outputs of <upstream gradient, output>, valid rows only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "tests/support/backends.h"
#include "tests/support/device_memory.h"

namespace bert::test {

enum class Kind {
  real,        // Ops::dtype()
  statistics,  // Ops::statistics_dtype(): also parameters and their gradients
  i32,
  u32,
  bytes  // a struct; its values are the bytes
};

enum class Role {
  input,                 // given to forward; unchanged by it and by backward
  output,                // written by forward (NaN before), kept for backward; compared
  upstream,              // the gradient of an output, given to backward; tail rows zero
  gradient,              // overwritten by backward (NaN before); compared; tail rows zero
  accumulated_gradient,  // += by backward (random before); compared
  state                  // given to forward, changed by it; not compared
};

// Which dimension of a tensor is a capacity, and how many of it count.
struct Rows {
  int dimension = -1;  // -1: every element counts
  std::int64_t count = 0;
};

struct CaseTensor {
  std::string name{};
  Role role = Role::input;
  Kind kind = Kind::real;
  std::vector<std::int64_t> shape{};
  Rows rows{};
  std::vector<double> values{};  // input, upstream; the tail rows are filled by add()
  std::string of{};              // upstream: of which output; gradients: of which input
  std::string memory_of{};       // lies in the memory of this tensor ("y may be x")
  std::string starts_as{};       // gradient: starts as this tensor's value, tails too, not as NaN
  std::int64_t terms = 1;        // how many terms an element sums (tolerance.h)
  bool scratch = false;          // upstream: backward may overwrite it

  std::int64_t numel() const;
  bool is_valid(std::int64_t index) const;  // not in a tail row
};

class BoundCase;

struct OpCase {
  std::string op{};    // "layer_norm"
  std::string name{};  // "one_row": letters, digits and underscores
  std::vector<CaseTensor> tensors{};
  std::function<void(Ops&, const BoundCase&)> forward{};
  std::function<void(Ops&, const BoundCase&)> backward{};  // empty: forward only
  double dropout = 0.0;
  bool differences = true;  // small enough for finite differences
  bool fp8 = false;         // a backend with FP8 products computes it in those

  CaseTensor& add(CaseTensor tensor);
  CaseTensor& input(const std::string& name, std::vector<std::int64_t> shape, Rows rows = {},
                    double scale = 1.0, double mean = 0.0);
  CaseTensor& parameter(const std::string& name, std::vector<std::int64_t> shape,
                        double scale = 1.0, double mean = 0.0);  // of kind statistics
  CaseTensor& integers(const std::string& name, std::vector<std::int64_t> shape, Rows rows,
                       std::vector<double> values);
  CaseTensor& output(const std::string& name, std::vector<std::int64_t> shape, Rows rows,
                     std::int64_t terms);
  CaseTensor& statistics(const std::string& name, std::vector<std::int64_t> shape, Rows rows,
                         std::int64_t terms);
  // The gradient of output `of`; the same shape and rows.
  CaseTensor& upstream(const std::string& name, const std::string& of);
  // The gradient of input `of`.
  CaseTensor& gradient(const std::string& name, const std::string& of, std::int64_t terms);
  CaseTensor& accumulated(const std::string& name, const std::string& of, std::int64_t terms);

  const CaseTensor& operator[](const std::string& name) const;
  // Names the random inputs: the same case has the same numbers on every backend.
  std::string seed_of(const std::string& tensor) const { return op + "/" + name + "/" + tensor; }
};

// The tokens of a packed micro-batch.
struct Packing {
  std::vector<std::int64_t> lengths{};
  std::int64_t capacity = 0;           // 0: as many as there are
  std::int64_t sequence_capacity = 0;  // likewise

  std::int64_t num_tokens() const;
  std::int64_t token_capacity() const { return capacity ? capacity : num_tokens(); }
  Rows rows() const { return {0, num_tokens()}; }
};
// Adds what BoundCase::tokens() needs, and the key that BoundCase::dropout() needs.
void add_tokens(OpCase& op_case, const Packing& packing);
// A DeviceCount of this name.
void add_count(OpCase& op_case, const std::string& name, std::int64_t count);

// A case in the memory of one backend.
class BoundCase {
 public:
  BoundCase(const OpCase& op_case, const Backend& backend);

  const OpCase& op_case() const { return *case_; }
  Ops& ops() const { return *ops_; }

  // For the case's forward and backward.
  Tensor operator()(const std::string& name) const;
  template <typename T>
  const T* pointer(const std::string& name) const {
    return static_cast<const T*>((*this)(name).raw());
  }
  DeviceCount count(const std::string& name) const { return pointer<std::int32_t>(name); }
  PackedTokens tokens() const;
  Dropout dropout(std::uint32_t site) const;

  // Inputs as declared, tail rows poisoned, outputs NaN; then forward.
  void run_forward();
  // Upstream gradients as declared, gradients NaN, then backward. Accumulated gradients start as
  // initial_gradient() unless `keep_accumulated`.
  void run_backward(bool keep_accumulated = false);

  std::vector<double> values(const std::string& name) const;  // as they are now
  // What an accumulated gradient started from.
  std::vector<double> initial_gradient(const CaseTensor& tensor) const;
  std::vector<std::byte> bytes(const std::string& name) const;
  // For finite differences: the host values of an input, uploaded by run_forward.
  std::vector<double>& host_values(const std::string& name) { return host_.at(name); }

  double loss() const;  // after run_forward; f64 backends
  // Names of the tensors around which something was written; empty when all is well.
  std::string broken_guards() const;
  DType dtype_of_kind(Kind kind) const;

 private:
  GuardedBuffer& buffer(const std::string& name) const;
  void upload(const CaseTensor& tensor);

  const OpCase* case_;
  Ops* ops_;
  std::map<std::string, std::unique_ptr<GuardedBuffer>> buffers_;
  std::map<std::string, std::vector<double>> host_;
};

}  // namespace bert::test
