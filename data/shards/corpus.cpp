#include "data/shards/corpus.h"

#include <bit>
#include <charconv>

#include <nlohmann/json.hpp>

#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/json.h"

namespace bert {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::string_view kFormatName = "bert.cu corpus";

// The numbers of a struct, by the names that its for_each gives them.
template <typename Struct>
json to_object(const Struct& numbers) {
  json object;
  Struct::for_each([&](const char* name, auto member) { object[name] = numbers.*member; });
  return object;
}

// The integers of a manifest, by key. `where` is its path.
struct Integers {
  const json& object;
  const std::string& where;
  template <typename T>
  void read(const char* key, T& value) const {
    value = json_integer<T>(object.at(key), where + ": " + key);
  }
  template <typename Struct>
  void read_each(Struct& numbers) const {
    Struct::for_each([&](const char* name, auto member) { read(name, numbers.*member); });
  }
  template <typename T>
  void read(const char* key, std::vector<T>& values) const {
    values.clear();
    for (const json& value : object.at(key)) {
      values.push_back(json_integer<T>(value, where + ": " + key));
    }
  }
};

CorpusCounts counts_from_json(const json& object, const std::string& where) {
  CorpusCounts counts;
  Integers{object, where}.read_each(counts);
  return counts;
}

std::string text_checksum(const std::string& text) {
  return hex64(hash_bytes(text.data(), text.size()));
}

// 16 hex digits, as hex64 writes them.
std::uint64_t digest_from_json(const json& value, const std::string& where) {
  const std::string text = value.get<std::string>();
  std::uint64_t digest = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), digest, 16);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw_input_error("{} is '{}': expected 16 hexadecimal digits", where, text);
  }
  return digest;
}

CorpusManifest manifest_from_json(const json& body, const std::string& where) {
  CorpusManifest manifest;
  const json& tokenizer = body.at("tokenizer");
  tokenizer.at("fingerprint").get_to(manifest.tokenizer_fingerprint);
  const Integers ids{tokenizer, where};
  ids.read("vocab_size", manifest.vocab_size);
  ids.read_each(manifest.special);
  const Integers integers{body, where};
  integers.read("seed", manifest.seed);
  body.at("validation_fraction").get_to(manifest.validation_fraction);
  integers.read("sequence_lengths", manifest.sequence_lengths);
  for (const json& source : body.at("sources")) {
    manifest.sources.push_back({source.at("name"), counts_from_json(source.at("counts"), where)});
  }
  for (const Split split : {Split::train, Split::validation}) {
    manifest.splits[static_cast<std::size_t>(split)] =
        counts_from_json(body.at("parts").at(std::string(split_name(split))), where);
  }
  // Corpora of earlier versions do not say these.
  if (const auto lengths = body.find("lengths"); lengths != body.end()) {
    Integers{*lengths, where}.read("documents", manifest.document_lengths.counts);
    Integers{*lengths, where}.read("sentences", manifest.sentence_lengths.counts);
  }
  if (const auto dropped = body.find("dropped"); dropped != body.end()) {
    Integers{*dropped, where}.read_each(manifest.dropped);
  }
  for (const auto& [path, digest] : body.at("files").items()) {
    manifest.files[path] = digest_from_json(digest, where + ": the digest of " + path);
  }
  return manifest;
}

}  // namespace

std::string_view split_name(Split split) { return split == Split::train ? "train" : "validation"; }

CorpusCounts& CorpusCounts::operator+=(const CorpusCounts& other) {
  for_each([&](const char*, auto count) { this->*count += other.*count; });
  return *this;
}

void LengthHistogram::add(std::uint64_t length) {
  const auto bucket = static_cast<std::size_t>(std::bit_width(length) - 1);
  if (counts.size() <= bucket) counts.resize(bucket + 1);
  ++counts[bucket];
}

std::string CorpusManifest::to_json() const {
  json body;
  body["tokenizer"] = to_object(special);
  body["tokenizer"]["fingerprint"] = tokenizer_fingerprint;
  body["tokenizer"]["vocab_size"] = vocab_size;
  body["seed"] = seed;
  body["validation_fraction"] = validation_fraction;
  body["sequence_lengths"] = sequence_lengths;
  body["sources"] = json::array();
  for (const CorpusSource& source : sources) {
    body["sources"].push_back({{"name", source.name}, {"counts", to_object(source.counts)}});
  }
  for (const Split split : {Split::train, Split::validation}) {
    body["parts"][std::string(split_name(split))] =
        to_object(splits[static_cast<std::size_t>(split)]);
  }
  if (!document_lengths.counts.empty()) {
    body["lengths"] = {{"documents", document_lengths.counts},
                       {"sentences", sentence_lengths.counts}};
    body["dropped"] = to_object(dropped);
  }
  body["files"] = json::object();
  for (const auto& [path, digest] : files) body["files"][path] = hex64(digest);
  const json manifest = {{"format", kFormatName},
                         {"format_version", kFormat},
                         {"corpus", body},
                         {"checksum", text_checksum(body.dump())}};
  return manifest.dump(2) + "\n";
}

CorpusManifest CorpusManifest::parse(const std::string& text, const fs::path& path) {
  try {
    check_json_text(text, path.string());
    const json manifest = json::parse(text);
    if (manifest.at("format") != kFormatName) {
      throw_input_error("{}: is not the manifest of a corpus", path.string());
    }
    const auto version =
        json_integer<int>(manifest.at("format_version"), path.string() + ": format_version");
    if (version != kFormat) {
      throw_input_error(
          "{}: corpus format {}, this program reads format {}; rebuild it with "
          "prepare_corpus",
          path.string(), version, kFormat);
    }
    const json& body = manifest.at("corpus");
    if (manifest.at("checksum") != text_checksum(body.dump())) {
      throw_input_error(
          "{}: wrong checksum: the file was damaged or edited; rebuild the corpus "
          "with prepare_corpus",
          path.string());
    }
    return manifest_from_json(body, path.string());
  } catch (const std::exception& error) {
    if (dynamic_cast<const Error*>(&error) != nullptr) throw;
    throw_input_error("{}: is damaged ({}); rebuild the corpus with prepare_corpus", path.string(),
                      error.what());
  }
}

bool is_corpus(const fs::path& folder) {
  const fs::path path = folder / "manifest.json";
  return fs::is_regular_file(path) && read_file(path).find(kFormatName) != std::string::npos;
}

Corpus::Corpus(const fs::path& folder) : folder_(folder) {
  if (!fs::is_directory(folder)) {
    throw_input_error("{}: {}; expected a corpus folder written by prepare_corpus", folder.string(),
                      fs::exists(folder) ? "is not a folder" : "does not exist");
  }
  const fs::path path = folder / "manifest.json";
  if (!fs::exists(path)) {
    throw_input_error(
        "{}: has no manifest.json, so it is not a complete corpus; write one with "
        "prepare_corpus",
        folder.string());
  }
  manifest_ = CorpusManifest::parse(read_file(path), path);
  for (const Split split : {Split::train, Split::validation}) {
    const std::string name(split_name(split));
    auto shard = std::make_unique<TokenShard>(folder / name, manifest_.vocab_size);
    for (const auto& [file, digest] : shard->digests()) {
      const auto known = manifest_.files.find(name + "/" + file);
      if (known == manifest_.files.end() || known->second != digest) {
        throw_input_error(
            "{}: is not the file that the manifest describes; rebuild the corpus "
            "with prepare_corpus",
            (folder / name / file).string());
      }
    }
    shards_[static_cast<std::size_t>(split)] = std::move(shard);
  }
}

std::string Corpus::fingerprint() const { return text_checksum(manifest_.to_json()); }

CutTable Corpus::cuts(Split split, const CutRule& rule) const {
  const std::string name(split_name(split));
  CutTable table(folder_ / name, shard(split), rule);
  const std::string file = name + "/" + cuts_file_name(rule);
  const auto known = manifest_.files.find(file);
  if (known != manifest_.files.end() && !(table.mapped() && table.digest() == known->second)) {
    throw_input_error(
        "{}: is missing or is not the file that the manifest describes; rebuild the "
        "corpus with prepare_corpus",
        (folder_ / file).string());
  }
  return table;
}

void Corpus::check_tokenizer(const Tokenizer& tokenizer) const {
  if (tokenizer.fingerprint() != manifest_.tokenizer_fingerprint) {
    throw_input_error(
        "{}: was made by another tokenizer (fingerprint {}, {} entries) than the one given "
        "(fingerprint {}, {} entries); use {} or prepare the corpus again",
        folder_.string(), manifest_.tokenizer_fingerprint, manifest_.vocab_size,
        tokenizer.fingerprint(), tokenizer.vocab_size(), tokenizer_folder().string());
  }
}

std::unique_ptr<Tokenizer> Corpus::tokenizer() const {
  auto tokenizer = load_tokenizer(tokenizer_folder());
  if (tokenizer->fingerprint() != manifest_.tokenizer_fingerprint) {
    throw_input_error(
        "{}: is not the tokenizer that made the corpus (fingerprint {}, the manifest "
        "says {}): its files were changed or damaged",
        tokenizer_folder().string(), tokenizer->fingerprint(), manifest_.tokenizer_fingerprint);
  }
  return tokenizer;
}

void Corpus::verify(const std::function<void(const std::string&)>& on_file) const {
  const auto announce = [&](const std::string& file) {
    if (on_file) on_file(file);
  };
  for (const Split split : {Split::train, Split::validation}) {
    announce(std::string(split_name(split)) + "/ (tokens, words, sentences, documents)");
    shard(split).verify();
  }
  for (const auto& [file, digest] : manifest_.files) {
    const fs::path path = folder_ / file;
    if (file.find("/cuts_") != std::string::npos) {
      announce(file);
      const CorpusArray<Cut> table(path, kCutsKind);
      if (table.file().digest() != digest) {
        throw_input_error("{}: is not the file that the manifest describes", path.string());
      }
      table.file().verify();
    } else if (file.starts_with("tokenizer/")) {
      announce(file);
      const std::string content = read_file(path);
      if (hash_bytes(content.data(), content.size()) != digest) {
        throw_input_error("{}: wrong checksum: the file was damaged or edited", path.string());
      }
    }
  }
  tokenizer();
}

}  // namespace bert
