// Small corpora for the tests of data.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "data/shards/corpus.h"
#include "data/shards/corpus_writer.h"
#include "data/tokenization/wordpiece_tokenizer.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/philox.h"

namespace bert {

// A folder of its own, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    static std::atomic<int> counter{0};
    path_ = std::filesystem::temp_directory_path() /
            fmt::format("bert_test_{}_{}", ::getpid(), counter++);
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline constexpr std::int32_t kNumSpecial = 5;

// [PAD] [UNK] [CLS] [SEP] [MASK], then by turns a word "w<n>" and a continuation "##c<n>".
inline WordpieceTokenizer number_tokenizer(std::int32_t vocab_size) {
  std::vector<std::string> pieces = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  for (std::int32_t id = kNumSpecial; id < vocab_size; ++id) {
    pieces.push_back(id % 2 == 1 ? fmt::format("w{}", id) : fmt::format("##c{}", id));
  }
  return WordpieceTokenizer(std::move(pieces), wordpiece_options(true));
}

// Documents given by the lengths of their sentences. The ids count up from 5, so that each token of
// a corpus can be told by its id; every `word_length` pieces are a word.
inline std::vector<TokenizedDocument> counting_documents(
    const std::vector<std::vector<std::uint32_t>>& sentence_lengths,
    std::uint32_t word_length = 2) {
  std::vector<TokenizedDocument> documents;
  std::int32_t id = kNumSpecial;
  for (const auto& lengths : sentence_lengths) {
    TokenizedDocument& document = documents.emplace_back();
    for (const std::uint32_t length : lengths) {
      for (std::uint32_t i = 0; i < length; ++i) {
        document.ids.push_back(id++);
        document.word_starts.push_back(i % word_length == 0 ? 1 : 0);
      }
      document.sentence_ends.push_back(static_cast<std::uint32_t>(document.ids.size()));
    }
  }
  return documents;
}

// Sentence lengths of `documents` documents, pseudo-random and the same every time: mostly short,
// some far longer than any sample.
inline std::vector<std::vector<std::uint32_t>> varied_lengths(std::size_t documents) {
  PhiloxStream random(7, 1, 0);
  std::vector<std::vector<std::uint32_t>> lengths(documents);
  for (auto& document : lengths) {
    document.resize(1 + random.next_below(12));
    for (auto& sentence : document) {
      sentence =
          random.next_below(20) == 0 ? 100 + random.next_below(200) : 1 + random.next_below(30);
    }
  }
  return lengths;
}

inline std::int32_t vocabulary_for(const std::vector<TokenizedDocument>& documents) {
  return documents.back().ids.back() + 1;
}

inline std::shared_ptr<const Corpus> write_corpus(const std::filesystem::path& folder,
                                                  const Tokenizer& tokenizer,
                                                  const std::vector<TokenizedDocument>& documents,
                                                  const CorpusWriterOptions& options = {}) {
  CorpusWriter writer(folder, tokenizer, options);
  writer.begin_source("test");
  for (const TokenizedDocument& document : documents) writer.add(document, 0);
  writer.commit();
  return std::make_shared<const Corpus>(folder);
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// Inverts one bit of a file.
inline void flip_bit(const std::filesystem::path& path, std::uint64_t bit) {
  std::string content = read_file(path);
  content[bit / 8] = static_cast<char>(content[bit / 8] ^ (1 << bit % 8));
  write_text(path, content);
}

// Names, in their order, and contents of all files and folders below a folder.
inline std::vector<std::pair<std::string, std::string>> contents(
    const std::filesystem::path& folder) {
  std::vector<std::pair<std::string, std::string>> files;
  if (!std::filesystem::exists(folder)) return files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    files.emplace_back(entry.path().lexically_relative(folder).string(),
                       entry.is_regular_file() ? read_file(entry.path()) : "");
  }
  std::sort(files.begin(), files.end());
  return files;
}

// What `action` says when it refuses; fails if it does not.
template <typename Action>
std::string refusal(Action action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  ADD_FAILURE() << "not refused";
  return "";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace bert
