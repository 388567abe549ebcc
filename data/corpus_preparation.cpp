#include "data/corpus_preparation.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "data/ordered_pipeline.h"
#include "runtime/error.h"

namespace bert {

namespace {

constexpr std::size_t kBatchBytes = std::size_t{1} << 18;
constexpr std::size_t kMaxUnknownWords = 100'000;
constexpr std::size_t kReportedUnknownWords = 10;

using Document = std::vector<std::string>;  // its lines
using WordCounts = std::unordered_map<std::string, std::uint64_t>;

struct TokenizedBatch {
  std::vector<TokenizedDocument> documents;
  std::vector<std::uint64_t> unknown;  // per document
  WordCounts unknown_words;
};

TokenizedBatch tokenize(const Tokenizer& tokenizer, const std::vector<Document>& documents) {
  TokenizedBatch batch;
  std::vector<Token> tokens;
  const std::int32_t unk = tokenizer.special().unk;
  for (const Document& lines : documents) {
    TokenizedDocument& document = batch.documents.emplace_back();
    std::uint64_t& unknown = batch.unknown.emplace_back(0);
    for (const std::string& line : lines) {
      tokens.clear();
      tokenizer.encode(line, tokens);
      document.add_sentence(tokens);
      for (const Token& token : tokens) {
        if (token.id != unk) continue;
        ++unknown;
        ++batch.unknown_words[line.substr(token.begin, token.end - token.begin)];
      }
    }
  }
  return batch;
}

// Adds counts; where there are too many words, those seen least are forgotten.
void merge(const WordCounts& from, WordCounts& into) {
  for (const auto& [word, count] : from) into[word] += count;
  for (std::uint64_t least = 1; into.size() > kMaxUnknownWords; least *= 2) {
    std::erase_if(into, [&](const auto& entry) { return entry.second <= least; });
  }
}

std::vector<std::pair<std::string, std::uint64_t>> commonest(const WordCounts& words) {
  std::vector<std::pair<std::string, std::uint64_t>> sorted(words.begin(), words.end());
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  sorted.resize(std::min(sorted.size(), kReportedUnknownWords));
  return sorted;
}

void add_stats(TextStats& total, const TextStats& file) {
  total.files += file.files;
  total.documents += file.documents;
  total.lines += file.lines;
  total.bytes += file.bytes;
  total.invalid_utf8 += file.invalid_utf8;
  if (total.first_invalid_utf8.empty()) total.first_invalid_utf8 = file.first_invalid_utf8;
  total.cut_lines += file.cut_lines;
  total.cut_documents += file.cut_documents;
}

// The size of all files together, 0 if one is standard input or a pipe.
std::uint64_t total_bytes(const std::vector<std::string>& files) {
  std::uint64_t total = 0;
  for (const std::string& file : files) {
    std::error_code error;
    if (file == "-" || !std::filesystem::is_regular_file(file, error)) return 0;
    total += std::filesystem::file_size(file);
  }
  return total;
}

}  // namespace

PreparationReport prepare_corpus(const Tokenizer& tokenizer, const PreparationOptions& options) {
  if (options.threads < 1 || options.threads > 1024) {
    throw_input_error("the number of threads is {}, expected 1 to 1024", options.threads);
  }
  TextReaderOptions reader_options;
  reader_options.refuse_invalid_utf8 = options.refuse_invalid_utf8;
  TextReader(options.files, reader_options);  // all files are looked at before work on the first
  CorpusWriter writer(options.output, tokenizer, options.writer);

  PreparationReport report;
  WordCounts unknown_words;
  std::uint64_t tokens_written = 0, bytes_before = 0, bytes_read = 0;
  const std::uint64_t bytes_total = total_bytes(options.files);
  const auto tell = [&] {
    if (options.progress) options.progress(bytes_before + bytes_read, bytes_total, tokens_written);
  };

  OrderedPipeline<std::vector<Document>, TokenizedBatch> pipeline(
      options.threads,
      [&](const std::vector<Document>& documents) { return tokenize(tokenizer, documents); });
  const auto write_oldest = [&] {
    const TokenizedBatch batch = pipeline.take();
    for (std::size_t i = 0; i < batch.documents.size(); ++i) {
      writer.add(batch.documents[i], batch.unknown[i]);
      tokens_written += batch.documents[i].ids.size();
    }
    merge(batch.unknown_words, unknown_words);
  };
  const std::size_t max_in_flight = 2 * static_cast<std::size_t>(options.threads) + 1;

  // One reader per file, so that counts go to the file they come from.
  for (const std::string& file : options.files) {
    writer.begin_source(file == "-" ? "standard input" : file);
    reader_options.progress = [&](std::uint64_t read, std::uint64_t) {
      bytes_read = read;
      tell();
    };
    TextReader reader({file}, reader_options);
    std::vector<Document> batch;
    std::size_t batch_bytes = 0;
    const auto hand_in = [&] {
      if (batch.empty()) return;
      if (pipeline.in_flight() >= max_in_flight) write_oldest();
      pipeline.put(std::exchange(batch, {}));
      batch_bytes = 0;
    };
    Document lines;
    while (reader.next_document(lines)) {
      for (const std::string& line : lines) batch_bytes += line.size();
      batch.push_back(std::exchange(lines, {}));
      if (batch_bytes >= kBatchBytes) hand_in();
    }
    hand_in();
    while (pipeline.in_flight() > 0) write_oldest();
    add_stats(report.text, reader.stats());
    bytes_before += std::exchange(bytes_read, 0);
  }
  tell();
  report.manifest = writer.commit();
  for (const CorpusCounts& part : report.manifest.parts) report.counts += part;
  report.unknown_words = commonest(unknown_words);
  return report;
}

}  // namespace bert
