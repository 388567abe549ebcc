#include "tests/support/op_case.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <span>

#include "runtime/error.h"
#include "tests/support/random_inputs.h"

namespace bert::test {
namespace {

// Finite garbage for the tail rows of inputs: large against real values, so that a leak shows.
double garbage(std::int64_t index) { return (index % 2 ? -1.0 : 1.0) * double(64 + index % 61); }
// Index tensors: a value that crashes whoever uses it.
constexpr double kGarbageIndex = double(1 << 30);

bool is_integer(Kind kind) { return kind == Kind::i32 || kind == Kind::u32; }

}  // namespace

std::int64_t CaseTensor::numel() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

bool CaseTensor::is_valid(std::int64_t index) const {
  if (rows.dimension < 0) return true;
  std::int64_t stride = 1;
  for (std::size_t d = static_cast<std::size_t>(rows.dimension) + 1; d < shape.size(); ++d) {
    stride *= shape[d];
  }
  return index / stride % shape[static_cast<std::size_t>(rows.dimension)] < rows.count;
}

CaseTensor& OpCase::add(CaseTensor tensor) {
  const std::int64_t numel = tensor.numel();
  if (tensor.role == Role::input || tensor.role == Role::upstream || tensor.role == Role::state) {
    BERT_CHECK(static_cast<std::int64_t>(tensor.values.size()) == numel, "{}: {} values for {}",
               seed_of(tensor.name), tensor.values.size(), numel);
    for (std::int64_t i = 0; i < numel; ++i) {
      if (tensor.is_valid(i)) continue;
      tensor.values[static_cast<std::size_t>(i)] = tensor.role == Role::upstream ? 0.0
                                                   : is_integer(tensor.kind)     ? kGarbageIndex
                                                                                 : garbage(i);
    }
  }
  tensors.push_back(std::move(tensor));
  return tensors.back();
}

CaseTensor& OpCase::input(const std::string& tensor, std::vector<std::int64_t> shape, Rows rows,
                          double scale, double mean) {
  CaseTensor t{.name = tensor, .shape = std::move(shape), .rows = rows};
  t.values = random_values(seed_of(tensor), t.numel(), scale, mean);
  return add(std::move(t));
}

CaseTensor& OpCase::parameter(const std::string& tensor, std::vector<std::int64_t> shape,
                              double scale, double mean) {
  CaseTensor t{.name = tensor, .kind = Kind::statistics, .shape = std::move(shape)};
  t.values = random_values(seed_of(tensor), t.numel(), scale, mean);
  return add(std::move(t));
}

CaseTensor& OpCase::integers(const std::string& tensor, std::vector<std::int64_t> shape, Rows rows,
                             std::vector<double> values) {
  CaseTensor t{.name = tensor, .kind = Kind::i32, .shape = std::move(shape), .rows = rows};
  values.resize(static_cast<std::size_t>(t.numel()), 0.0);
  t.values = std::move(values);
  return add(std::move(t));
}

CaseTensor& OpCase::output(const std::string& tensor, std::vector<std::int64_t> shape, Rows rows,
                           std::int64_t terms) {
  CaseTensor t{.name = tensor, .role = Role::output, .shape = std::move(shape), .rows = rows};
  t.terms = terms;
  return add(std::move(t));
}

CaseTensor& OpCase::statistics(const std::string& tensor, std::vector<std::int64_t> shape,
                               Rows rows, std::int64_t terms) {
  CaseTensor& t = output(tensor, std::move(shape), rows, terms);
  t.kind = Kind::statistics;
  return t;
}

CaseTensor& OpCase::upstream(const std::string& tensor, const std::string& of) {
  const CaseTensor& y = (*this)[of];
  CaseTensor t{.name = tensor,
               .role = Role::upstream,
               .kind = y.kind,
               .shape = y.shape,
               .rows = y.rows,
               .of = of};
  t.values = random_values(seed_of(tensor), t.numel());
  return add(std::move(t));
}

CaseTensor& OpCase::gradient(const std::string& tensor, const std::string& of, std::int64_t terms) {
  const CaseTensor& x = (*this)[of];
  CaseTensor t{.name = tensor,
               .role = Role::gradient,
               .kind = x.kind,
               .shape = x.shape,
               .rows = x.rows,
               .of = of};
  t.terms = terms;
  return add(std::move(t));
}

CaseTensor& OpCase::accumulated(const std::string& tensor, const std::string& of,
                                std::int64_t terms) {
  CaseTensor& t = gradient(tensor, of, terms);
  t.role = Role::accumulated_gradient;
  if (t.rows.dimension < 0) t.kind = Kind::statistics;  // of a parameter
  return t;
}

const CaseTensor& OpCase::operator[](const std::string& tensor) const {
  for (const CaseTensor& t : tensors) {
    if (t.name == tensor) return t;
  }
  throw_runtime_error("case {}/{} has no tensor {}", op, name, tensor);
}

std::int64_t Packing::num_tokens() const {
  return std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
}

void add_count(OpCase& op_case, const std::string& name, std::int64_t count) {
  op_case.integers(name, {1}, {}, {static_cast<double>(count)});
}

void add_tokens(OpCase& op_case, const Packing& packing) {
  const auto sequences = static_cast<std::int64_t>(packing.lengths.size());
  const std::int64_t capacity = packing.sequence_capacity ? packing.sequence_capacity : sequences;
  std::vector<double> position_ids, token_sequence, cu_seqlens{0.0}, sequence_index;
  for (std::int64_t s = 0; s < sequences; ++s) {
    const std::int64_t length = packing.lengths[static_cast<std::size_t>(s)];
    for (std::int64_t i = 0; i < length; ++i) {
      position_ids.push_back(static_cast<double>(i));
      token_sequence.push_back(static_cast<double>(s));
    }
    cu_seqlens.push_back(cu_seqlens.back() + static_cast<double>(length));
    sequence_index.push_back(static_cast<double>((s * 37 + 5) % 1000));
  }
  cu_seqlens.resize(static_cast<std::size_t>(capacity + 1), cu_seqlens.back());
  const std::int64_t t = packing.token_capacity();
  op_case.integers("position_ids", {t}, packing.rows(), position_ids);
  op_case.integers("token_sequence", {t}, packing.rows(), token_sequence);
  op_case.integers("cu_seqlens", {capacity + 1}, {}, cu_seqlens);
  op_case.integers("sequence_index", {capacity}, {0, sequences}, sequence_index).kind = Kind::u32;
  add_count(op_case, "num_tokens", packing.num_tokens());
  add_count(op_case, "num_sequences", sequences);

  const DropoutKey key{.seed = 0x123456789ABCDEF0u, .step = 77};
  CaseTensor key_tensor{.name = "dropout_key", .kind = Kind::bytes, .shape = {sizeof(DropoutKey)}};
  for (const std::byte b : std::as_bytes(std::span(&key, 1))) {
    key_tensor.values.push_back(std::to_integer<int>(b));
  }
  op_case.add(std::move(key_tensor));
}

BoundCase::BoundCase(const OpCase& op_case, const Backend& backend)
    : case_(&op_case), ops_(backend.ops.get()) {
  for (const CaseTensor& tensor : case_->tensors) {
    host_[tensor.name] = tensor.values;
    if (!tensor.memory_of.empty()) continue;
    buffers_[tensor.name] = std::make_unique<GuardedBuffer>(
        *backend.device,
        static_cast<std::size_t>(tensor.numel()) * dtype_size(dtype_of_kind(tensor.kind)));
  }
}

DType BoundCase::dtype_of_kind(Kind kind) const {
  switch (kind) {
    case Kind::real:
      return ops_->dtype();
    case Kind::statistics:
      return ops_->statistics_dtype();
    case Kind::i32:
      return DType::i32;
    case Kind::u32:
      return DType::u32;
    case Kind::bytes:
      return DType::u8;
  }
  return DType::u8;
}

GuardedBuffer& BoundCase::buffer(const std::string& name) const {
  const CaseTensor& tensor = (*case_)[name];
  return *buffers_.at(tensor.memory_of.empty() ? name : tensor.memory_of);
}

Tensor BoundCase::operator()(const std::string& name) const {
  const CaseTensor& tensor = (*case_)[name];
  const DType dtype = dtype_of_kind(tensor.kind);
  const auto& s = tensor.shape;
  void* const data = buffer(name).data();
  return s.size() == 1 ? Tensor(data, dtype, {s[0]}) : Tensor(data, dtype, {s[0], s[1]});
}

PackedTokens BoundCase::tokens() const {
  PackedTokens tokens{.position_ids = (*this)("position_ids"),
                      .token_sequence = (*this)("token_sequence"),
                      .cu_seqlens = (*this)("cu_seqlens"),
                      .sequence_index = (*this)("sequence_index"),
                      .num_tokens = count("num_tokens"),
                      .num_sequences = count("num_sequences"),
                      .max_seqlen = 1};  // also without any sequence
  const std::vector<double>& cu = host_.at("cu_seqlens");
  for (std::size_t i = 0; i + 1 < cu.size(); ++i) {
    tokens.max_seqlen = std::max(tokens.max_seqlen, static_cast<std::int64_t>(cu[i + 1] - cu[i]));
  }
  return tokens;
}

Dropout BoundCase::dropout(std::uint32_t site) const {
  return {.probability = static_cast<float>(case_->dropout),
          .site = site,
          .key = pointer<DropoutKey>("dropout_key")};
}

void BoundCase::upload(const CaseTensor& tensor) {
  buffer(tensor.name).upload(encode(host_.at(tensor.name), dtype_of_kind(tensor.kind)));
}

void BoundCase::run_forward() {
  for (const CaseTensor& tensor : case_->tensors) {
    if (tensor.role == Role::output && tensor.memory_of.empty()) buffer(tensor.name).fill_nan();
  }
  for (const CaseTensor& tensor : case_->tensors) {
    if (tensor.role == Role::input || tensor.role == Role::state) upload(tensor);
  }
  case_->forward(*ops_, *this);
}

std::vector<double> BoundCase::initial_gradient(const CaseTensor& tensor) const {
  std::vector<double> initial = random_values(case_->seed_of(tensor.name), tensor.numel());
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    if (!tensor.is_valid(i)) initial[static_cast<std::size_t>(i)] = 0.0;
  }
  return initial;
}

void BoundCase::run_backward(bool keep_accumulated) {
  for (const CaseTensor& tensor : case_->tensors) {
    if (tensor.role == Role::gradient && tensor.memory_of.empty()) {
      if (tensor.starts_as.empty()) {
        buffer(tensor.name).fill_nan();
      } else {
        buffer(tensor.name).upload(bytes(tensor.starts_as));
      }
    }
    if (tensor.role == Role::accumulated_gradient && !keep_accumulated) {
      buffer(tensor.name).upload(encode(initial_gradient(tensor), dtype_of_kind(tensor.kind)));
    }
  }
  for (const CaseTensor& tensor : case_->tensors) {
    if (tensor.role == Role::upstream) upload(tensor);
  }
  case_->backward(*ops_, *this);
}

std::vector<std::byte> BoundCase::bytes(const std::string& name) const {
  return buffer(name).download();
}

std::vector<double> BoundCase::values(const std::string& name) const {
  return decode(bytes(name), dtype_of_kind((*case_)[name].kind));
}

double BoundCase::loss() const {
  long double sum = 0.0L;  // finite differences see the rounding of the op alone
  for (const CaseTensor& tensor : case_->tensors) {
    if (tensor.role != Role::upstream) continue;
    const std::vector<double> y = values(tensor.of);
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (tensor.is_valid(static_cast<std::int64_t>(i))) {
        sum += static_cast<long double>(tensor.values[i]) * y[i];
      }
    }
  }
  return static_cast<double>(sum);
}

std::string BoundCase::broken_guards() const {
  std::string names;
  for (const auto& [name, buffer] : buffers_) {
    if (!buffer->guards_intact()) names += " " + name;
  }
  return names;
}

}  // namespace bert::test
