#include "model/weights/pickle_file.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "model/weights/zip_entries.h"
#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::size_t kMostPickle = 4 << 20;  // BERT-large's has 60 KB
constexpr std::size_t kMostExtents = 8;

struct StorageClass {
  std::string_view name, dtype;
};
constexpr StorageClass kStorageClasses[] = {{"FloatStorage", "F32"},     {"HalfStorage", "F16"},
                                            {"BFloat16Storage", "BF16"}, {"DoubleStorage", "F64"},
                                            {"LongStorage", "I64"},      {"IntStorage", "I32"},
                                            {"ShortStorage", "I16"},     {"CharStorage", "I8"},
                                            {"ByteStorage", "U8"},       {"BoolStorage", "BOOL"}};

// What the names (GLOBAL) of a pickle may be: nothing is looked up under them.
enum class Global { ordered_dict, rebuild_tensor, rebuild_parameter, storage_class };

enum class Kind { mark, none, number, text, global, tuple, dict, storage, tensor };

// A value on the pickle's stack. Values are never changed but dicts, and refer to each
// other by their places in PickleReader::values_, so that no loop of them can hold memory.
struct Value {
  Kind kind = Kind::none;
  std::int64_t number = 0;             // number; the Global; place in storages_ or tensors_
  std::string_view text{};             // text; dtype of a storage class
  std::vector<std::uint32_t> items{};  // tuple: elements; dict: keys and values in turn
};

struct Storage {
  std::string_view dtype;
  std::span<const std::byte> bytes;
};

class PickleReader {
 public:
  PickleReader(const ZipEntries& entries, const std::string& folder, std::string source)
      : entries_(entries), folder_(folder), source_(std::move(source)) {}

  // The tensors of the dict that the pickle is.
  std::vector<StoredTensor> read(std::span<const std::byte> pickle) {
    pickle_ = {reinterpret_cast<const char*>(pickle.data()), pickle.size()};
    while (step()) {
    }
    const Value& top = pop(Kind::dict, "a dict of tensors (a state dict)");
    std::vector<StoredTensor> result;
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < top.items.size(); i += 2) {
      const Value &key = values_[top.items[i]], &value = values_[top.items[i + 1]];
      if (key.kind != Kind::text) wrong("a key of the dict is no text");
      if (value.kind != Kind::tensor) {
        wrong("\"{}\" is no tensor; expected a dict of tensors, as model.state_dict() is",
              key.text);
      }
      if (!names.insert(key.text).second) wrong("\"{}\" is there twice", key.text);
      StoredTensor tensor = tensors_[static_cast<std::size_t>(value.number)];
      tensor.name = key.text;
      if (tensor.data == nullptr) {
        wrong("{} ({}) is not contiguous: save {{name: tensor.contiguous(), ...}}", tensor.name,
              tensor.shape_string());
      }
      result.push_back(std::move(tensor));
    }
    return result;
  }

 private:
  template <typename... Args>
  [[noreturn]] void wrong(fmt::format_string<Args...> format, Args&&... args) const {
    throw_input_error("{}: data.pkl, before byte {}: {}", source_, at_,
                      fmt::format(format, std::forward<Args>(args)...));
  }

  // --- bytes ---
  std::string_view take(std::uint64_t size) {
    if (size > pickle_.size() - at_) wrong("it ends too early");
    const std::string_view bytes = pickle_.substr(at_, size);
    at_ += size;
    return bytes;
  }
  // Little endian, unsigned.
  std::uint64_t take_number(std::size_t size) {
    std::uint64_t value = 0;
    std::memcpy(&value, take(size).data(), size);
    return value;
  }
  std::string_view take_line() {
    const std::string_view line = pickle_.substr(at_, pickle_.find('\n', at_) - at_);
    take(line.size() + 1);
    return line;
  }

  // --- stack ---
  void push(Value value) {
    stack_.push_back(static_cast<std::uint32_t>(values_.size()));
    values_.push_back(std::move(value));
  }
  std::uint32_t pop() {
    if (stack_.empty()) wrong("a value is missing");
    const std::uint32_t value = stack_.back();
    stack_.pop_back();
    return value;
  }
  const Value& pop(Kind kind, std::string_view expected) {
    const Value& value = values_[pop()];
    if (value.kind != kind) wrong("expected {}", expected);
    return value;
  }
  // What lies above the topmost mark, which goes too.
  std::vector<std::uint32_t> pop_to_mark() {
    std::size_t mark = stack_.size();
    while (mark > 0 && values_[stack_[mark - 1]].kind != Kind::mark) --mark;
    if (mark == 0) wrong("a mark is missing");
    std::vector<std::uint32_t> items(stack_.begin() + static_cast<std::ptrdiff_t>(mark),
                                     stack_.end());
    stack_.resize(mark - 1);
    return items;
  }
  void push_tuple(std::size_t size) {
    Value tuple{Kind::tuple, 0, {}, std::vector<std::uint32_t>(size)};
    for (std::size_t i = size; i-- > 0;) tuple.items[i] = pop();
    push(std::move(tuple));
  }
  void append_to_dict(const std::vector<std::uint32_t>& items) {
    if (stack_.empty() || values_[stack_.back()].kind != Kind::dict) wrong("expected a dict");
    if (items.size() % 2 != 0) wrong("a dict's key has no value");
    std::vector<std::uint32_t>& target = values_[stack_.back()].items;
    target.insert(target.end(), items.begin(), items.end());
  }
  void push_memo(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) wrong("value {} is not kept", key);
    stack_.push_back(found->second);
  }
  void keep_memo(std::uint64_t key) {
    if (stack_.empty()) wrong("a value is missing");
    memo_[key] = stack_.back();
  }
  // The n-th element of a tuple, of that kind.
  const Value& element(const Value& tuple, std::size_t n, Kind kind, std::string_view what) const {
    if (n >= tuple.items.size() || values_[tuple.items[n]].kind != kind) wrong("expected {}", what);
    return values_[tuple.items[n]];
  }

  // --- instructions: those that pickle's protocol 2 writes for a state dict. False at the end. ---
  bool step() {
    const char code = take(1)[0];
    switch (code) {
      case '\x80':  // PROTO
        if (const std::uint64_t protocol = take_number(1); protocol != 2) {
          wrong("pickle protocol {}; expected 2, which torch.save uses", protocol);
        }
        return true;
      case '.':  // STOP
        return false;
      case '(':  // MARK
        push({.kind = Kind::mark});
        return true;
      case 'N':  // NONE
        push({});
        return true;
      case '\x88':  // NEWTRUE
      case '\x89':  // NEWFALSE
        push({.kind = Kind::number, .number = code == '\x88' ? 1 : 0});
        return true;
      case 'K':  // BININT1
      case 'M':  // BININT2
        push({.kind = Kind::number,
              .number = static_cast<std::int64_t>(take_number(code == 'K' ? 1 : 2))});
        return true;
      case 'J':  // BININT
        push({.kind = Kind::number, .number = static_cast<std::int32_t>(take_number(4))});
        return true;
      case '\x8a':  // LONG1
        push_long(take_number(1));
        return true;
      case 'X':  // BINUNICODE
        push({.kind = Kind::text, .text = take(take_number(4))});
        return true;
      case '}':  // EMPTY_DICT
        push({.kind = Kind::dict});
        return true;
      case ')':  // EMPTY_TUPLE
        push({.kind = Kind::tuple});
        return true;
      case '\x85':  // TUPLE1
      case '\x86':  // TUPLE2
      case '\x87':  // TUPLE3
        push_tuple(static_cast<std::size_t>(code - '\x84'));
        return true;
      case 't':  // TUPLE
        push({.kind = Kind::tuple, .items = pop_to_mark()});
        return true;
      case 's': {  // SETITEM
        const std::uint32_t value = pop(), key = pop();
        append_to_dict({key, value});
        return true;
      }
      case 'u':  // SETITEMS
        append_to_dict(pop_to_mark());
        return true;
      case 'q':  // BINPUT
      case 'r':  // LONG_BINPUT
        keep_memo(take_number(code == 'q' ? 1 : 4));
        return true;
      case 'h':  // BINGET
      case 'j':  // LONG_BINGET
        push_memo(take_number(code == 'h' ? 1 : 4));
        return true;
      case 'c':  // GLOBAL
        push_global();
        return true;
      case 'Q':  // BINPERSID
        push_storage();
        return true;
      case 'R':  // REDUCE
        reduce();
        return true;
      case 'b':  // BUILD: a state dict's attribute _metadata, versions of its modules
        pop();
        if (stack_.empty() || values_[stack_.back()].kind != Kind::dict) {
          wrong("attributes of something that is no dict");
        }
        return true;
      default:
        wrong("instruction 0x{:02x} is none that a state dict needs; nothing was run",
              static_cast<unsigned char>(code));
    }
  }

  void push_long(std::uint64_t size) {
    if (size > 8) wrong("a number of {} bytes", size);
    std::uint64_t bits = take_number(size);
    const std::uint64_t unused = 64 - 8 * size;
    const std::int64_t number =
        size == 0 ? 0 : static_cast<std::int64_t>(bits << unused) >> unused;  // with its sign
    push({.kind = Kind::number, .number = number});
  }

  void push_global() {
    const std::string_view module = take_line(), name = take_line();
    const auto push_as = [&](Global global, std::string_view dtype = {}) {
      push({.kind = Kind::global, .number = static_cast<std::int64_t>(global), .text = dtype});
    };
    if (module == "collections" && name == "OrderedDict") return push_as(Global::ordered_dict);
    if (module == "torch._utils" && name == "_rebuild_tensor_v2") {
      return push_as(Global::rebuild_tensor);
    }
    if (module == "torch._utils" && name == "_rebuild_parameter") {
      return push_as(Global::rebuild_parameter);
    }
    for (const StorageClass& known : kStorageClasses) {
      if (module == "torch" && name == known.name) {
        return push_as(Global::storage_class, known.dtype);
      }
    }
    wrong(
        "it asks for {}.{}, which is no part of a dict of tensors; nothing was run. Save the "
        "weights alone: torch.save(model.state_dict(), ...)",
        module, name);
  }

  // ("storage", class, key, location, elements)
  void push_storage() {
    const Value& id = pop(Kind::tuple, "what names a storage");
    const Value& type = element(id, 1, Kind::global, "a storage's class");
    const std::string key(element(id, 2, Kind::text, "a storage's key").text);
    const std::int64_t count = element(id, 4, Kind::number, "a storage's size").number;
    if (element(id, 0, Kind::text, "\"storage\"").text != "storage" || type.text.empty()) {
      wrong("expected a storage");
    }
    const auto entry = entries_.find(folder_ + "data/" + key);
    if (entry == entries_.end()) wrong("its storage {}data/{} is not there", folder_, key);
    const std::span<const std::byte> bytes = entry->second;
    if (count < 0 ||
        static_cast<std::uint64_t>(count) > bytes.size() / stored_element_size(type.text)) {
      wrong("storage {} should have {} elements of {}, but has {} bytes", key, count, type.text,
            bytes.size());
    }
    storages_.push_back(
        {type.text, bytes.first(static_cast<std::size_t>(count) * stored_element_size(type.text))});
    // Last: what is pushed may move the values, and `type` with them.
    push({.kind = Kind::storage, .number = static_cast<std::int64_t>(storages_.size()) - 1});
  }

  // Calls one of the three functions there are.
  void reduce() {
    const Value arguments = pop(Kind::tuple, "arguments");
    const Value& function = values_[pop()];
    if (function.kind != Kind::global) wrong("expected a function");
    switch (static_cast<Global>(function.number)) {
      case Global::ordered_dict:
        if (!arguments.items.empty()) wrong("expected an empty OrderedDict");
        return push({.kind = Kind::dict});
      case Global::rebuild_parameter: {  // (tensor, requires_grad, hooks)
        element(arguments, 0, Kind::tensor, "a parameter's tensor");
        return stack_.push_back(arguments.items[0]);
      }
      case Global::rebuild_tensor:
        return rebuild_tensor(arguments);
      case Global::storage_class:
        wrong("a storage is made out of nothing");
    }
  }

  // (storage, first element, extents, strides, requires_grad, hooks); negative numbers and
  // whatever does not fit are refused.
  void rebuild_tensor(const Value& arguments) {
    const Value& place = element(arguments, 0, Kind::storage, "a tensor's storage");
    const Storage& storage = storages_[static_cast<std::size_t>(place.number)];
    const auto first =
        static_cast<std::uint64_t>(element(arguments, 1, Kind::number, "an offset").number);
    const Value& extents = element(arguments, 2, Kind::tuple, "a tensor's shape");
    const Value& strides = element(arguments, 3, Kind::tuple, "a tensor's strides");
    if (extents.items.size() != strides.items.size() || extents.items.size() > kMostExtents) {
      wrong("a shape of {} numbers and {} strides", extents.items.size(), strides.items.size());
    }
    const std::uint64_t element_size = stored_element_size(storage.dtype);
    const std::uint64_t elements = storage.bytes.size() / element_size;
    StoredTensor tensor;
    tensor.dtype = storage.dtype;
    std::uint64_t count = 1;
    bool contiguous = true;
    for (std::size_t i = extents.items.size(); i-- > 0;) {
      const std::int64_t extent = element(extents, i, Kind::number, "an extent").number;
      const std::int64_t stride = element(strides, i, Kind::number, "a stride").number;
      tensor.shape.insert(tensor.shape.begin(), extent);
      contiguous &= extent <= 1 || static_cast<std::uint64_t>(stride) == count;
      if (extent < 1 || static_cast<std::uint64_t>(extent) > elements / count) {
        wrong("a tensor of shape [..., {}] does not fit its storage of {} elements",
              fmt::join(tensor.shape, ", "), elements);
      }
      count *= static_cast<std::uint64_t>(extent);
    }
    if (first > elements || count > elements - first) {
      wrong("a tensor of {} elements from {} on leaves its storage of {}", count, first, elements);
    }
    tensor.bytes = count * element_size;
    if (contiguous) tensor.data = storage.bytes.data() + first * element_size;
    push({.kind = Kind::tensor, .number = static_cast<std::int64_t>(tensors_.size())});
    tensors_.push_back(std::move(tensor));
  }

  const ZipEntries& entries_;
  const std::string& folder_;
  const std::string source_;
  std::string_view pickle_;
  std::size_t at_ = 0;
  std::vector<Value> values_;
  std::vector<std::uint32_t> stack_;
  std::map<std::uint64_t, std::uint32_t> memo_;
  std::vector<Storage> storages_;
  std::vector<StoredTensor> tensors_;  // without names; data is null where not contiguous
};

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

PickleFile::PickleFile(const std::filesystem::path& path) : WeightsSource(path), file_(path) {
  const std::span<const std::byte> bytes(file_.data(), file_.size());
  // Before PyTorch 1.6: a pickle of the number 0x1950a86a20f9469cfc6c, then others.
  constexpr std::string_view kLegacy("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19",
                                     14);
  if (as_text(bytes).starts_with(kLegacy)) {
    throw_input_error(
        "{} was written by a PyTorch before 1.6, in a format that is not read here. Save it anew "
        "with a later one: d = torch.load(FILE, map_location=\"cpu\", weights_only=True); "
        "torch.save(d, FILE)",
        path.string());
  }
  const ZipEntries entries = read_zip_entries(bytes, path.string());
  constexpr std::string_view kPickle = "data.pkl";
  const auto pickle = std::find_if(entries.begin(), entries.end(), [&](const auto& entry) {
    return entry.first.ends_with(kPickle) &&
           entry.first.find('/') + 1 + kPickle.size() == entry.first.size();
  });
  if (pickle == entries.end()) {
    throw_input_error("{}: expected an archive by torch.save, with an entry data.pkl",
                      path.string());
  }
  if (pickle->second.size() > kMostPickle) {
    throw_input_error("{}: its data.pkl has {} bytes, expected no more than {}", path.string(),
                      pickle->second.size(), kMostPickle);
  }
  const std::string folder = pickle->first.substr(0, pickle->first.size() - kPickle.size());
  if (const auto order = entries.find(folder + "byteorder");
      order != entries.end() && as_text(order->second) != "little") {
    throw_input_error("{}: its numbers are not little endian", path.string());
  }
  set_tensors(PickleReader(entries, folder, path.string()).read(pickle->second));
}

}  // namespace bert
