#include "data/shards/corpus_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include <xxhash.h>

#include "runtime/error.h"

namespace bert {
namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "corpus files are little-endian");

namespace {

constexpr char kMagic[8] = {'B', 'E', 'R', 'T', 'C', 'F', '0', '1'};

struct Footer {
  char magic[8];
  char kind[16];
  std::uint32_t element_bytes;
  std::uint32_t block_bytes;
  std::uint64_t payload_bytes;
  std::uint64_t reserved;
  std::uint64_t checksums_hash;
  std::uint64_t footer_hash;  // of the 56 bytes before it
};
static_assert(sizeof(Footer) == 64);

std::uint64_t footer_hash(const Footer& footer) {
  return hash_bytes(&footer, offsetof(Footer, footer_hash));
}

[[noreturn]] void throw_damaged(const fs::path& path, const std::string& what) {
  throw_input_error(
      "{}: {}; the file is damaged or incomplete: copy the corpus again or rebuild it with "
      "prepare_corpus",
      path.string(), what);
}

std::uint64_t num_blocks(std::uint64_t payload_bytes) {
  return payload_bytes / kCorpusBlockBytes + (payload_bytes % kCorpusBlockBytes != 0 ? 1 : 0);
}

std::string_view kind_of(const Footer& footer) {
  return {footer.kind, ::strnlen(footer.kind, sizeof footer.kind)};
}

// The footer, once it and the size of the file are seen to be right.
Footer read_footer(const fs::path& path, const MappedFile& file) {
  Footer footer{};
  if (file.size() < sizeof footer) throw_damaged(path, "too short to be a corpus file");
  std::memcpy(&footer, file.data() + file.size() - sizeof footer, sizeof footer);
  if (std::memcmp(footer.magic, kMagic, sizeof kMagic) != 0) {
    throw_damaged(path, "does not end like a corpus file");
  }
  if (footer_hash(footer) != footer.footer_hash) throw_damaged(path, "wrong footer checksum");
  if (footer.element_bytes == 0 || footer.payload_bytes % footer.element_bytes != 0) {
    throw_damaged(path, fmt::format("{} bytes are no whole number of elements of {} bytes",
                                    footer.payload_bytes, footer.element_bytes));
  }
  const std::uint64_t expected = footer.payload_bytes +
                                 num_blocks(footer.payload_bytes) * sizeof(std::uint64_t) +
                                 sizeof footer;
  // Half of all numbers, so that the sum above has not wrapped around to the right one.
  constexpr std::uint64_t kMost = std::uint64_t{1} << 63;
  if (footer.payload_bytes >= kMost || file.size() != expected) {
    throw_damaged(path, fmt::format("has {} bytes, expected {}", file.size(), expected));
  }
  return footer;
}

}  // namespace

std::string hex64(std::uint64_t value) { return fmt::format("{:016x}", value); }

std::uint64_t hash_bytes(const void* data, std::size_t size, std::uint64_t seed) {
  return XXH3_64bits_withSeed(data, size, seed);
}

CorpusFileWriter::CorpusFileWriter(fs::path path, std::string_view kind, std::size_t element_bytes)
    : file_(std::move(path)), kind_(kind), element_bytes_(element_bytes) {
  BERT_CHECK(kind.size() < sizeof(Footer::kind));
  block_.reserve(kCorpusBlockBytes);
}

void CorpusFileWriter::append(const void* data, std::size_t bytes) {
  const auto* source = static_cast<const std::byte*>(data);
  payload_bytes_ += bytes;
  while (bytes > 0) {
    const std::size_t part = std::min(bytes, kCorpusBlockBytes - block_.size());
    block_.insert(block_.end(), source, source + part);
    source += part;
    bytes -= part;
    if (block_.size() == kCorpusBlockBytes) flush_block();
  }
}

void CorpusFileWriter::flush_block() {
  if (block_.empty()) return;
  checksums_.push_back(hash_bytes(block_.data(), block_.size()));
  file_.write(block_.data(), block_.size());
  block_.clear();
}

std::uint64_t CorpusFileWriter::commit() {
  flush_block();
  BERT_CHECK(payload_bytes_ % element_bytes_ == 0);
  const std::size_t table_bytes = checksums_.size() * sizeof(std::uint64_t);
  file_.write(checksums_.data(), table_bytes);
  Footer footer{};
  std::memcpy(footer.magic, kMagic, sizeof kMagic);
  std::memcpy(footer.kind, kind_.data(), kind_.size());
  footer.element_bytes = static_cast<std::uint32_t>(element_bytes_);
  footer.block_bytes = static_cast<std::uint32_t>(kCorpusBlockBytes);
  footer.payload_bytes = payload_bytes_;
  footer.checksums_hash = hash_bytes(checksums_.data(), table_bytes);
  footer.footer_hash = footer_hash(footer);
  file_.write(&footer, sizeof footer);
  file_.commit();
  return footer.footer_hash;
}

CorpusFileInfo corpus_file_info(const fs::path& path) {
  const MappedFile file(path);
  const Footer footer = read_footer(path, file);
  return {std::string(kind_of(footer)), footer.element_bytes, footer.payload_bytes,
          footer.footer_hash};
}

CorpusFile::CorpusFile(const fs::path& path, std::string_view kind, std::size_t element_bytes)
    : path_(path), map_(path) {
  const Footer footer = read_footer(path, map_);
  if (kind_of(footer) != kind || footer.element_bytes != element_bytes ||
      footer.block_bytes != kCorpusBlockBytes) {
    throw_input_error("{}: holds '{}' of {} bytes each, expected '{}' of {} bytes", path.string(),
                      kind_of(footer), footer.element_bytes, kind, element_bytes);
  }
  payload_bytes_ = footer.payload_bytes;
  const std::uint64_t blocks = num_blocks(payload_bytes_);
  const std::uint64_t table_bytes = blocks * sizeof(std::uint64_t);
  checksums_.resize(blocks);
  // An empty payload has no table: a null data() must not reach memcpy.
  if (blocks > 0) std::memcpy(checksums_.data(), map_.data() + payload_bytes_, table_bytes);
  if (hash_bytes(checksums_.data(), table_bytes) != footer.checksums_hash) {
    throw_damaged(path, "wrong checksum of its checksums");
  }
  digest_ = footer.footer_hash;
  verified_ = std::make_unique<std::atomic<bool>[]>(blocks);
}

void CorpusFile::verify_block(std::uint64_t block) const {
  // Two threads may both check a block; they find the same answer.
  const std::uint64_t begin = block * kCorpusBlockBytes;
  const std::uint64_t bytes = std::min<std::uint64_t>(kCorpusBlockBytes, payload_bytes_ - begin);
  if (hash_bytes(map_.data() + begin, bytes) != checksums_[block]) {
    throw_damaged(path_, fmt::format("wrong checksum of bytes {} to {}", begin, begin + bytes - 1));
  }
  verified_[block].store(true, std::memory_order_release);
}

void CorpusFile::throw_outside(std::uint64_t begin, std::uint64_t end) const {
  throw_damaged(path_,
                fmt::format("has no elements {} to {}, which other files speak of", begin, end));
}

void CorpusFile::verify() const {
  for (std::uint64_t block = 0; block < checksums_.size(); ++block) verify_block(block);
}

}  // namespace bert
