// tokenize: standard input to pieces or ids, one JSON line per line; or ids to text.
#include <iostream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/text/unicode.h"
#include "data/tokenization/tokenizer.h"
#include "runtime/command_line.h"
#include "runtime/error.h"
#include "runtime/plural.h"
#include "runtime/program.h"

namespace {

using bert::Token;
using Json = nlohmann::ordered_json;

struct Arguments {
  std::string tokenizer, mode = "huggingface", invalid_utf8 = "replace";
  bool ids = false, offsets = false, cased = false, special = false, plain_text = false,
       decode = false;
};

Json describe(const bert::Tokenizer& tokenizer, const std::vector<Token>& tokens,
              const Arguments& arguments) {
  Json answer = Json::array();
  for (const Token& token : tokens) {
    const Json name = arguments.ids ? Json(token.id) : Json(tokenizer.piece(token.id));
    answer.push_back(arguments.offsets ? Json{name, token.begin, token.end} : name);
  }
  return answer;
}

// A line of ids, as --ids prints them, back to text.
std::string decode(const bert::Tokenizer& tokenizer, const std::string& line,
                   std::uint64_t number) {
  std::vector<std::int32_t> ids;
  try {
    ids = Json::parse(line).get<std::vector<std::int32_t>>();
  } catch (const Json::exception&) {
    bert::throw_input_error("standard input:{}: expected a JSON array of ids, like [2, 17, 3]",
                            number);
  }
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= tokenizer.vocab_size()) {
      bert::throw_input_error("standard input:{}: the id {} is not in the vocabulary of {}", number,
                              id, tokenizer.vocab_size());
    }
  }
  return tokenizer.decode(ids);
}

int run(const Arguments& arguments) {
  bert::TokenizerOptions options;
  options.cased = arguments.cased;
  if (arguments.mode == "google") options.mode = bert::CompatMode::kGoogle;
  const auto tokenizer = bert::load_tokenizer(arguments.tokenizer, options);
  std::ios::sync_with_stdio(false);
  std::string line;
  std::vector<Token> tokens;
  std::uint64_t number = 0, invalid = 0, first_invalid = 0;
  while (std::getline(std::cin, line)) {
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    if (arguments.decode) {
      std::cout << decode(*tokenizer, line, number) << '\n';
      continue;
    }
    if (!bert::is_valid_utf8(line)) {
      if (arguments.invalid_utf8 == "refuse") {
        bert::throw_input_error(
            "standard input:{}: not valid UTF-8; --invalid-utf8 replace takes it as U+FFFD",
            number);
      }
      if (invalid++ == 0) first_invalid = number;
    }
    tokens.clear();
    tokenizer->encode(line, tokens, !arguments.plain_text);
    if (arguments.special) {
      const auto end = static_cast<std::uint32_t>(line.size());
      tokens.insert(tokens.begin(), Token{tokenizer->special().cls, 0, 0, false});
      tokens.push_back(Token{tokenizer->special().sep, end, end, false});
    }
    std::cout << describe(*tokenizer, tokens, arguments).dump() << '\n';
    if (std::cin.rdbuf()->in_avail() <= 0) std::cout.flush();  // answer a person at once
  }
  if (invalid > 0) {
    std::cerr << "warning: invalid UTF-8 in " << bert::plural(invalid, "line") << ", first in line "
              << first_invalid << ": each such part was taken as U+FFFD\n";
  }
  if (!std::cout.flush()) bert::throw_runtime_error("cannot write to standard output");
  return 0;
}

int parse_and_run(int argc, char** argv) {
  bert::CommandLine line(
      "Reads text from standard input and prints one JSON array per line: its pieces, or "
      "their ids. With --decode it goes from ids to text.",
      "tokenize");
  Arguments arguments;
  line.add("--tokenizer", arguments.tokenizer,
           "a tokenizer folder, a vocab.txt or a SentencePiece .model")
      .required();
  line.add("--ids", arguments.ids, "print ids instead of pieces");
  line.add("--offsets", arguments.offsets,
           "print [piece, begin, end], the byte range of the line that it came from");
  line.add("--special", arguments.special, "put [CLS] and [SEP] around each line");
  line.add("--plain-text", arguments.plain_text,
           "take [MASK] and the like as text, not as special tokens");
  line.add("--decode", arguments.decode, "read JSON arrays of ids and print their text")
      .excludes("--ids")
      .excludes("--offsets")
      .excludes("--special");
  line.add("--cased", arguments.cased, "a bare vocab.txt is cased");
  line.add("--mode", arguments.mode, "whose rules a bare vocab.txt follows")
      .one_of({"huggingface", "google"});
  line.add("--invalid-utf8", arguments.invalid_utf8, "replace (by U+FFFD) or refuse")
      .one_of({"replace", "refuse"});
  std::vector<std::string> given;  // by who expects that texts or files go here
  line.add("TEXT", given, "").group("");
  if (const auto done = line.parse(argc, argv)) return *done;
  if (!given.empty()) {
    bert::throw_input_error(
        "text is read from standard input: give it as echo \"...\" | tokenize ..., or a file as "
        "tokenize ... < FILE, instead of '{}'",
        given.front());
  }
  return run(arguments);
}

}  // namespace

int main(int argc, char** argv) {
  return bert::run_program([&] { return parse_and_run(argc, argv); });
}
