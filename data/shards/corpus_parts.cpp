#include "data/shards/corpus_parts.h"

#include <algorithm>
#include <fstream>

#include <nlohmann/json.hpp>

#include "data/shards/duplicates.h"
#include "data/text/unicode.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/json.h"

namespace bert {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr int kFormat = 1;
constexpr std::size_t kMaxWords = 100'000;

// The format of a plain file, or nothing if it is compressed.
bool plain_format(const InputFile& file, TextFormat asked, TextFormat& format) {
  std::string head(std::size_t{1} << 12, '\0');
  std::ifstream stream(file.path, std::ios::binary);
  stream.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<std::size_t>(stream.gcount()));
  if (!compression_of(head).empty()) return false;
  format = asked == TextFormat::automatic ? detect_text_format(file.path, head) : asked;
  return true;
}

// A large plain file in ranges of about `part_bytes`, others whole.
std::vector<TextSegment> cut_file(const InputFile& file, TextFormat asked,
                                  std::uint64_t part_bytes) {
  TextFormat format = TextFormat::text;
  if (!file.regular || file.size < 2 * part_bytes || !plain_format(file, asked, format)) {
    return {{file}};
  }
  std::vector<TextSegment> segments;
  std::uint64_t begin = 0;
  for (std::uint64_t wanted = part_bytes; begin < file.size; wanted += part_bytes) {
    if (wanted <= begin) continue;
    const std::uint64_t end =
        wanted >= file.size ? file.size : find_document_boundary(file.path, format, wanted);
    segments.push_back({file, begin, end});
    begin = end;
  }
  return segments;
}

std::uint64_t segment_bytes(const TextSegment& segment) {
  return segment.end == ByteSource::kToTheEnd ? segment.file.size : segment.end - segment.begin;
}

// JSON must be UTF-8, a path may be anything.
std::string json_text(const std::string& text) {
  std::uint64_t replaced = 0;
  return replace_invalid_utf8(text, replaced);
}

}  // namespace

std::string PartPlan::folder_name() const {
  const TextHash hash = hash_text(key);
  return hex64(hash.high) + hex64(hash.low);
}

std::uint64_t default_part_bytes(std::uint64_t input_bytes) {
  return std::clamp<std::uint64_t>(input_bytes / 256, std::uint64_t{1} << 20,
                                   std::uint64_t{64} << 20);
}

std::vector<PartPlan> plan_parts(const Inputs& inputs, const TextParsingOptions& options,
                                 const std::string& tokenizer_fingerprint, bool line_hashes,
                                 std::uint64_t part_bytes) {
  std::vector<PartPlan> parts;
  for (const InputFile& file : inputs.files) {
    for (const TextSegment& segment : cut_file(file, options.format, part_bytes)) {
      const std::uint64_t bytes = segment_bytes(segment);
      if (parts.empty() || !file.regular || !parts.back().keep ||
          parts.back().bytes + bytes > part_bytes) {
        parts.emplace_back();
      }
      parts.back().segments.push_back(segment);
      parts.back().bytes += bytes;
      parts.back().keep = file.regular;
    }
  }
  for (PartPlan& part : parts) {
    json segments = json::array();
    for (const TextSegment& segment : part.segments) {
      // The bytes of the path, whatever they are: two files must not look the same.
      const std::string path = fs::absolute(segment.file.path).lexically_normal().string();
      const TextHash path_hash = hash_text(path);
      segments.push_back({json_text(path), hex64(path_hash.low), segment.file.named,
                          segment.file.size, segment.file.modified, segment.begin, segment.end});
    }
    part.key = json{{"format", kFormat},
                    {"tokenizer", tokenizer_fingerprint},
                    {"segments", segments},
                    {"text_format", text_format_name(options.format)},
                    {"text_field", json_text(options.text_field)},
                    {"skip_malformed", options.skip_malformed},
                    {"refuse_invalid_utf8", options.refuse_invalid_utf8},
                    {"min_line_chars", options.min_line_chars},
                    {"line_hashes", line_hashes}}
                   .dump();
  }
  return parts;
}

void merge_tally(const WordTally& from, WordTally& into) {
  for (const auto& [word, count] : from) into[word] += count;
  for (std::uint64_t least = 1; into.size() > kMaxWords; least *= 2) {
    std::erase_if(into, [&](const auto& entry) { return entry.second <= least; });
  }
}

std::vector<std::pair<std::string, std::uint64_t>> commonest_words(const WordTally& words,
                                                                   std::size_t limit) {
  std::vector<std::pair<std::string, std::uint64_t>> sorted(words.begin(), words.end());
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  sorted.resize(std::min(sorted.size(), limit));
  return sorted;
}

void save_part_summary(const fs::path& folder, const PartPlan& plan, const PartSummary& summary) {
  json answer = {{"key", plan.key},
                 {"first_invalid_utf8", json_text(summary.text.first_invalid_utf8)},
                 {"first_malformed", json_text(summary.text.first_malformed)},
                 {"segment_documents", summary.segment_documents},
                 {"documents", summary.documents},
                 {"sentences", summary.sentences},
                 {"tokens", summary.tokens},
                 {"unknown_words", json::array()},
                 {"digests", json::object()}};
  TextStats::for_each_count(
      [&](const char* name, auto count) { answer[name] = summary.text.*count; });
  for (const auto& [word, count] : summary.unknown_words) {
    answer["unknown_words"].push_back({json_text(word), count});
  }
  for (const auto& [file, digest] : summary.digests) answer["digests"][file] = digest;
  write_file_atomic(folder / "part.json", answer.dump());
}

bool load_part_summary(const fs::path& folder, const PartPlan& plan, std::int32_t vocab_size,
                       PartSummary& summary) {
  if (!fs::exists(folder / "part.json")) return false;
  try {
    const auto answer = parse_json<json>(read_file(folder / "part.json"), "part.json");
    if (answer.at("key") != plan.key) return false;
    const auto count = [](const json& value) {
      return json_integer<std::uint64_t>(value, "part.json");
    };
    TextStats::for_each_count(
        [&](const char* name, auto member) { summary.text.*member = count(answer.at(name)); });
    answer.at("first_invalid_utf8").get_to(summary.text.first_invalid_utf8);
    answer.at("first_malformed").get_to(summary.text.first_malformed);
    summary.segment_documents.clear();
    for (const json& documents : answer.at("segment_documents")) {
      summary.segment_documents.push_back(count(documents));
    }
    summary.documents = count(answer.at("documents"));
    summary.sentences = count(answer.at("sentences"));
    summary.tokens = count(answer.at("tokens"));
    summary.unknown_words.clear();
    for (const json& entry : answer.at("unknown_words")) {
      summary.unknown_words.emplace_back(entry.at(0), count(entry.at(1)));
    }
    summary.digests.clear();
    for (const auto& [file, digest] : answer.at("digests").items()) {
      summary.digests[file] = count(digest);
    }
    // Blocks are checked when they are read; here, that the files are those of this part.
    for (const auto& [file, digest] : summary.digests) {
      if (corpus_file_info(folder / file).digest != digest) return false;
    }
    const TokenShard shard(folder, vocab_size);
    return shard.num_documents() == summary.documents && shard.num_tokens() == summary.tokens;
  } catch (const std::exception&) {
    return false;  // damaged: done again
  }
}

}  // namespace bert
