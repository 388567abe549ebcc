// embed, predict, and fill_mask of files, as a user runs them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

#include "tests/train/task_checkpoint.h"
#include "tests/train/tools_fixture.h"
#include "train/inference/inference_session.h"
#include "train/inference/task_predictor.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class Inference : public ToolsTest {
 protected:
  void SetUp() override {
    write_random_model(folder_ / "model", tokenizer_,
                       std::make_unique<BertForPretraining>(
                           random_config(kVocabSize), BertForPretraining::Heads::mlm_and_nsp));
  }

  Answer embed(const std::string& arguments, const std::string& checkpoint = "model") {
    return run(fmt::format("{} --checkpoint {} {}", BERT_EMBED, path(checkpoint), arguments));
  }
  Answer predict(const std::string& arguments, const std::string& checkpoint) {
    return run(fmt::format("{} --checkpoint {} {}", BERT_PREDICT, path(checkpoint), arguments));
  }

  static std::vector<Json> records(const Answer& answer) {
    EXPECT_EQ(answer.exit_code, 0) << answer.output;
    std::vector<Json> list;
    std::istringstream lines(answer.output);
    for (std::string line; std::getline(lines, line);) list.push_back(Json::parse(line));
    return list;
  }
  std::vector<std::vector<double>> vectors(const std::string& arguments,
                                           const std::string& checkpoint = "model") {
    std::vector<std::vector<double>> all;
    for (const Json& record : records(embed(arguments + " 2>/dev/null", checkpoint))) {
      EXPECT_EQ(record.at("index"), all.size());
      all.push_back(record.at("embedding"));
    }
    return all;
  }

  // Texts of 0 to 36 words, short and long ones beside each other.
  static std::vector<std::string> mixed_texts() {
    std::vector<std::string> texts;
    PhiloxStream random(3, 1, 0);
    for (int i = 0; i < 23; ++i) {
      std::string text;
      for (std::uint32_t words = random.next_below(i % 3 == 0 ? 37 : 5); words > 0; --words) {
        text += fmt::format("{}w{}", text.empty() ? "" : " ", 5 + 2 * random.next_below(27));
      }
      texts.push_back(text);
    }
    texts[4] = "";
    return texts;
  }
  std::string write_lines(const std::string& name, const std::vector<std::string>& lines) {
    std::string content;
    for (const std::string& line : lines) content += line + '\n';
    write_text(folder_ / name, content);
    return path(name);
  }
};

void expect_near(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], tolerance) << i;
}

double difference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

TEST_F(Inference, VectorsAreInTheOrderOfTheTextsWhateverIsComputedAtOnce) {
  const std::vector<std::string> texts = mixed_texts();
  const std::string file = write_lines("texts.txt", texts);
  const auto all = vectors("--input " + file);
  ASSERT_EQ(all.size(), texts.size());
  for (const char* tokens : {"1", "50", "97", "100000"}) {
    const auto others = vectors(fmt::format("--batch-tokens {} --input {}", tokens, file));
    ASSERT_EQ(others.size(), texts.size());
    for (std::size_t i = 0; i < all.size(); ++i) expect_near(others[i], all[i], 1e-5);
  }
  for (const std::size_t i : {0u, 4u, 11u, 22u}) {
    const auto alone = vectors("--input " + write_lines("one.txt", {texts[i]}));
    ASSERT_EQ(alone.size(), 1u);
    expect_near(alone[0], all[i], 1e-5);
    EXPECT_GT(difference(all[i], all[(i + 1) % all.size()]), 1e-2);
  }
}

TEST_F(Inference, PoolingIsOfTheLastHiddenStates) {
  const std::string file = write_lines("texts.txt", {"w5 w7 w9", "w11"});
  const std::vector<Json> tokens =
      records(embed("--pooling tokens --input " + file + " 2>/dev/null"));
  ASSERT_EQ(tokens.size(), 2u);
  EXPECT_EQ(tokens[0].at("tokens"), (std::vector<std::string>{"[CLS]", "w5", "w7", "w9", "[SEP]"}));

  // What `forward` computes of the same ids.
  const Answer answer =
      forward("[{\"input_ids\": [2, 5, 7, 9, 3]}, {\"input_ids\": [2, 11, 3]}]", "", "model");
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const SafetensorsFile computed(folder_ / "out.safetensors");
  const std::vector<double> states = read_doubles(computed, "hidden_states.2");
  const std::vector<double> pooled = read_doubles(computed, "pooled");
  std::vector<double> flat;
  for (const Json& record : tokens) {
    for (const std::vector<double> state : record.at("embeddings")) {
      flat.insert(flat.end(), state.begin(), state.end());
    }
  }
  expect_near(flat, states, 1e-5);

  const auto cls = vectors("--pooling cls --input " + file);
  const auto mean = vectors("--pooling mean --input " + file);
  const auto unit = vectors("--pooling mean --normalize --input " + file);
  const auto pooler = vectors("--pooling pooler --input " + file);
  expect_near(cls[1], {states.begin() + 5 * 16, states.begin() + 6 * 16}, 1e-5);
  expect_near(pooler[1], {pooled.begin() + 16, pooled.end()}, 1e-5);
  double square = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    double sum = 0;
    for (std::size_t row = 0; row < 5; ++row) sum += states[row * 16 + i];
    EXPECT_NEAR(mean[0][i], sum / 5, 1e-5);
    square += mean[0][i] * mean[0][i];
  }
  for (std::size_t i = 0; i < 16; ++i) {
    EXPECT_NEAR(unit[0][i], mean[0][i] / std::sqrt(square), 1e-5);
  }
}

TEST_F(Inference, NpyHoldsTheSameVectors) {
  const std::string file = write_lines("texts.txt", mixed_texts());
  const auto expected = vectors("--input " + file);
  const Answer answer = embed(fmt::format("--input {} --output {}", file, path("out.npy")));
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("23 texts"), std::string::npos) << answer.output;
  const std::string npy = read_file(folder_ / "out.npy");
  ASSERT_EQ(npy.size(), 128 + 23 * 16 * 4u);
  EXPECT_EQ(npy.substr(0, 10), std::string("\x93NUMPY\x01\x00\x76\x00", 10));
  EXPECT_TRUE(npy.substr(10, 117).starts_with(
      "{'descr': '<f4', 'fortran_order': False, 'shape': (23, 16), }  "));
  EXPECT_EQ(npy[127], '\n');
  for (std::size_t i = 0; i < 23; ++i) {
    for (std::size_t c = 0; c < 16; ++c) {
      float value = 0;
      std::memcpy(&value, npy.data() + 128 + (i * 16 + c) * 4, 4);
      EXPECT_NEAR(value, expected[i][c], 1e-6);
    }
  }
  const Answer tokens = embed(fmt::format("--pooling tokens --input {} --output {}",
                                          write_lines("two", {"w5", "w7 w9"}), path("tokens.npy")));
  ASSERT_EQ(tokens.exit_code, 0) << tokens.output;
  EXPECT_EQ(read_file(folder_ / "tokens.npy").size(), 128 + 7 * 16 * 4u);
  const std::string lengths = read_file(folder_ / "tokens.lengths.npy");
  std::int64_t length[2] = {};
  ASSERT_EQ(lengths.size(), 128 + sizeof length);
  std::memcpy(length, lengths.data() + 128, sizeof length);
  EXPECT_EQ(length[0], 3);
  EXPECT_EQ(length[1], 4);
}

TEST_F(Inference, LongTextsAreCutAndCounted) {
  std::string text = "w5";
  for (int i = 0; i < 37; ++i) text += " w7";
  const std::string file = write_lines("texts.txt", {text, text + " w9", text + " w11 w13", "w5"});
  const auto all = vectors("--input " + file);
  expect_near(all[1], all[0], 1e-6);
  expect_near(all[2], all[0], 1e-6);
  EXPECT_NE(embed("--input " + file + " >/dev/null")
                .output.find("cut to 40 tokens (--max-length): 2 texts of 4\n"),
            std::string::npos);
  const auto shorter = vectors("--max-length 3 --input " + file);
  expect_near(shorter[0], vectors("--input " + write_lines("one", {"w5"}))[0], 1e-5);
  expect_refused(embed("--max-length 41 --input " + file), "3 to 40");
  // The text would be gone.
  fs::create_symlink(file, folder_ / "link");
  expect_refused(embed("--input " + file + " --output " + path("link")), "is an input");
}

TEST_F(Inference, LinesComeInSeveralForms) {
  const auto expected = vectors("--input " + write_lines("texts.txt", {"w5 w7", "w9"}));
  write_text(folder_ / "a.jsonl", "{\"text\": \"w5 w7\"}\n\n{\"text\": \"w9\"}");
  EXPECT_EQ(vectors("--input " + path("a.jsonl")), expected);
  write_text(folder_ / "b.txt", "{\"body\": \"w5 w7\"}\r\n{\"body\": \"w9\"}\r\n");
  EXPECT_EQ(vectors("--text-field body --input " + path("b.txt")), expected);
  write_text(folder_ / "c.txt", "\xef\xbb\xbfw5 w7\r\nw9");
  EXPECT_EQ(vectors("--input " + path("c.txt")), expected);
  ASSERT_EQ(run("gzip -k " + path("texts.txt")).exit_code, 0);
  EXPECT_EQ(vectors("--input " + path("texts.txt.gz")), expected);
  EXPECT_EQ(vectors("--input - < " + path("texts.txt")), expected);
  EXPECT_EQ(vectors("--input " + path("texts.txt") + " " + path("a.jsonl")).size(), 4u);

  write_text(folder_ / "bad.jsonl", "{\"text\": \"w5\"}\n{\"body\": \"w5\"}\n");
  expect_refused(embed("--input " + path("bad.jsonl") + " >/dev/null"), "bad.jsonl:2: ");
}

TEST_F(Inference, APipeIsAnsweredLineByLine) {
  const Answer answer = run(fmt::format(
      "bash -c 'coproc P {{ {} --checkpoint {} --input - 2>/dev/null; }}; "
      "for word in w5 w7; do echo $word >&${{P[1]}}; read -t 60 line <&${{P[0]}} || echo late; "
      "echo ${{line:0:11}}; done; eval \"exec ${{P[1]}}>&-\"; wait'",
      BERT_EMBED, path("model")));
  EXPECT_EQ(answer.output, "{\"index\": 0\n{\"index\": 1\n") << answer.exit_code;
}

TEST_F(Inference, EmbedHeedsTheFilesOfSentenceTransformers) {
  const std::string file = write_lines("texts.txt", {"w5 w7 w9 w11", "w9"});
  const auto unit = vectors("--pooling cls --normalize --max-length 4 --input " + file);
  const auto plain = vectors("--pooling mean --input " + file);
  const std::string prefix = "sentence_transformers.models.";
  const auto modules = [&](const std::string& last) {
    Json list = Json::array();
    for (const auto& [type, place] : {std::pair<std::string, std::string>{"Transformer", ""},
                                      {"Pooling", "1_Pooling"},
                                      {last, "2_Last"}}) {
      list.push_back({{"type", prefix + type}, {"path", place}});
    }
    write_text(folder_ / "model" / "modules.json", list.dump());
  };
  fs::create_directories(folder_ / "model" / "1_Pooling");
  const fs::path pooling = folder_ / "model" / "1_Pooling" / "config.json";
  write_text(pooling, "{\"pooling_mode_cls_token\": true, \"pooling_mode_mean_tokens\": false}");
  write_text(folder_ / "model" / "sentence_bert_config.json", "{\"max_seq_length\": 4}");
  modules("Normalize");
  EXPECT_EQ(vectors("--input " + file), unit);
  EXPECT_EQ(vectors("--pooling mean --max-length 40 --input " + file), plain);
  EXPECT_NE(vectors("--no-normalize --input " + file), unit);
  // They go with the model.
  const Answer exported = run(
      fmt::format("{} --checkpoint {} --output {}", BERT_EXPORT, path("model"), path("exported")));
  ASSERT_EQ(exported.exit_code, 0) << exported.output;
  EXPECT_EQ(vectors("--input " + file, "exported"), unit);
  modules("Dense");
  expect_refused(embed("--input " + file), "Dense");
  modules("Normalize");
  write_text(pooling, "{\"pooling_mode_max_tokens\": true}");
  expect_refused(embed("--input " + file), "max_tokens");
}

TEST_F(Inference, EmbedTakesTextsOfTheCommandLine) {
  EXPECT_EQ(vectors("'w5 w7' w9"), vectors("--input " + write_lines("texts.txt", {"w5 w7", "w9"})));
  // No list.
  EXPECT_EQ(vectors("'[w5] w7, [w9]' w9"),
            vectors("--input " + write_lines("texts.txt", {"[w5] w7, [w9]", "w9"})));
}

TEST_F(Inference, EmbedTakesTextsOfStandardInput) {
  const std::string file = write_lines("texts.txt", {"w5 w7", "w9"});
  EXPECT_EQ(vectors("<" + file), vectors("--input " + file));
}

TEST_F(Inference, ThreadsAreAsManyAsAskedFor) {
  EXPECT_NE(embed("w5 --device cpu --threads 1").output.find(", 1 thread\n"), std::string::npos);
  EXPECT_NE(embed("w5 --device cpu --threads 2").output.find(", 2 threads\n"), std::string::npos);
  expect_refused(embed("w5 --threads 0"), "--threads");
}

TEST_F(Inference, EmbedRefuses) {
  const std::string file = write_lines("texts.txt", {"w5"});
  expect_refused(embed("--input " + path("nothing.txt")), "nothing.txt");
  expect_refused(embed("--input " + file, "nowhere"), "nowhere");
  write_random_model(folder_ / "bare", tokenizer_,
                     std::make_unique<BertModel>(random_config(kVocabSize), /*with_pooler=*/false));
  expect_refused(embed("--pooling pooler --input " + file, "bare"), "no pooler");
  EXPECT_EQ(embed("--input " + file, "bare").exit_code, 0);
  // A failure leaves nothing behind.
  write_text(folder_ / "bad.jsonl", "{\"text\": \"w5\"}\n[]\n");
  EXPECT_EQ(embed("--input " + path("bad.jsonl") + " --output " + path("out.npy")).exit_code, 2);
  for (const auto& entry : fs::directory_iterator(folder_.path())) {
    EXPECT_EQ(entry.path().string().find("out.npy"), std::string::npos) << entry.path();
  }
}

TEST_F(Inference, FillMaskOfFiles) {
  std::vector<std::string> texts;
  for (int i = 0; i < 30; ++i) {
    texts.push_back(fmt::format("w{} [MASK]", 5 + 2 * (i % 9)));
    for (int k = 0; k < i % 4; ++k) texts.back() += " w7 [MASK]";
  }
  const std::string file = write_lines("texts.txt", texts);
  const auto fill = [&](const std::string& more) {
    return records(fill_mask("--json --top-k 2 --input " + file + more + " 2>/dev/null", "model"));
  };
  const std::vector<Json> all = fill("");
  ASSERT_EQ(all.size(), 30u);
  const std::vector<Json> small = fill(" --batch-tokens 1");
  ASSERT_EQ(small.size(), 30u);
  for (std::size_t i = 0; i < 30; ++i) {
    EXPECT_EQ(all[i].at("text"), texts[i]);
    ASSERT_EQ(all[i].at("masks").size(), 1 + i % 4);
    for (std::size_t m = 0; m < 1 + i % 4; ++m) {
      const Json a = all[i].at("masks")[m][0], b = small[i].at("masks")[m][0];
      EXPECT_EQ(a.at("id"), b.at("id"));
      EXPECT_NEAR(a.at("probability"), b.at("probability"), 1e-5);
    }
  }
  // What comes before a line that cannot be filled in is answered.
  texts[10] = "w5";
  const Answer answer = fill_mask("--json --input " + write_lines("bad.txt", texts), "model");
  EXPECT_EQ(answer.exit_code, 2);
  EXPECT_NE(answer.output.find("bad.txt:11: nothing to fill in"), std::string::npos);
  EXPECT_EQ(std::count(answer.output.begin(), answer.output.end(), '\n'), 11);
  // Or it is left out, if that is asked for.
  const Answer most =
      fill_mask("--json --skip-bad-rows --input " + path("bad.txt") + " 2>&1 >/dev/null", "model");
  EXPECT_EQ(most.exit_code, 0) << most.output;
  EXPECT_NE(most.output.find("1 left out"), std::string::npos) << most.output;
  EXPECT_NE(most.output.find("29 texts"), std::string::npos) << most.output;
}

// One bad line of JSON among good ones ends each program, after the answers of those before it; or
// it is left out and counted.
TEST_F(Inference, MalformedLinesAreSkippedIfAskedFor) {
  write_task_checkpoint(folder_ / "task", tokenizer_, TaskKind::classification, {"x", "y"});
  const std::string file =
      write_lines("lines.jsonl", {R"({"text": "w5 [MASK]"})", "", R"({"text": 5})", "{bad",
                                  R"({"text": "\f"})", R"({"text": "w7 [MASK]"})"});
  const auto use = [&](const std::string& program, const std::string& more) {
    const bool predicts = program == BERT_PREDICT;
    return run(fmt::format("{} --checkpoint {} {} {} {} 2>&1", program,
                           path(predicts ? "task" : "model"), program == BERT_EMBED ? "" : "--json",
                           more, (predicts ? "--text-field text < " : "--input ") + file));
  };
  const auto count = [](const Answer& answer, const std::string& what) {
    std::size_t found = 0;
    for (auto at = answer.output.find(what); at != std::string::npos;
         at = answer.output.find(what, at + 1)) {
      ++found;
    }
    return found;
  };
  for (const char* program : {BERT_FILL_MASK, BERT_EMBED, BERT_PREDICT}) {
    SCOPED_TRACE(program);
    const bool embeds = program == std::string(BERT_EMBED);  // blank texts too
    const std::string of = program == std::string(BERT_PREDICT) ? "standard input" : file;
    const Answer refused = use(program, "");
    EXPECT_EQ(refused.exit_code, 2) << refused.output;
    EXPECT_EQ(count(refused, "\n{\"") + refused.output.starts_with("{"), 1u) << refused.output;
    EXPECT_EQ(count(refused, of + ":3: expected a JSON object with a string 'text', which "
                                  "--text-field names (the value of 'text' is not a string) ("),
              1u)
        << refused.output;
    const Answer skipped = use(program, "--skip-bad-rows");
    EXPECT_EQ(skipped.exit_code, 0) << skipped.output;
    EXPECT_EQ(count(skipped, "\n{\"") + skipped.output.starts_with("{"), embeds ? 3u : 2u)
        << skipped.output;
    EXPECT_EQ(count(skipped, "2 left out: malformed line (" + of + ":3: "), 1u) << skipped.output;
  }
}

TEST_F(Inference, TextsOfTheCommandLineAreNoJson) {
  for (const Answer& answer : {fill_mask("--text-field x '[MASK]'", "model"),
                               embed("--text-field x w5"), predict("--text-field x w5", "model")}) {
    expect_refused(answer, "--text-field is for lines of JSON");
  }
}

// --- predict ------------------------------------------------------------------------------------
TEST_F(Inference, PredictsClasses) {
  write_task_checkpoint(folder_ / "task", tokenizer_, TaskKind::classification,
                        {"good", "bad", "neither"});
  std::vector<std::string> rows{"text\tlabel"}, texts;
  for (int i = 0; i < 20; ++i) {
    texts.push_back(fmt::format("w{} w{} w{}", 5 + 2 * i, 7 + 2 * (i % 5), 9));
    for (int k = 0; k < i % 6; ++k) texts.back() += " w11 w13";
    rows.push_back(texts.back() + (i % 2 == 0 ? "\tgood" : "\tbad"));
  }
  const std::string file = write_lines("texts.tsv", rows);
  const std::vector<Json> all = records(predict("--input " + file + " 2>/dev/null", "task"));
  const std::vector<Json> small =
      records(predict("--batch-tokens 1 --input " + file + " 2>/dev/null", "task"));
  std::string quoted;
  for (const std::string& text : texts) quoted += " '" + text + "'";
  const std::vector<Json> direct = records(predict("--json" + quoted, "task"));
  const std::vector<Json> bracketed = records(predict("--json '[w5], [w9]' ' [w5]'", "task"));
  ASSERT_EQ(bracketed.size(), 2u);  // no lists
  EXPECT_EQ(bracketed[0].at("text"), "[w5], [w9]");
  EXPECT_EQ(bracketed[1].at("text"), " [w5]");
  const std::vector<Json> piped =
      records(run(fmt::format("printf '{}\\n' | {} --json --checkpoint {}", fmt::join(texts, "\\n"),
                              BERT_PREDICT, path("task"))));
  ASSERT_EQ(all.size(), 20u);
  ASSERT_EQ(small.size(), 20u);
  ASSERT_EQ(direct.size(), 20u);
  ASSERT_EQ(piped.size(), 20u);
  std::size_t good = 0;
  for (std::size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(all[i].at("line"), i + 2);
    good += all[i].at("label") == (i % 2 == 0 ? "good" : "bad") ? 1 : 0;
    for (const std::vector<Json>* other : {&small, &direct, &piped}) {
      EXPECT_EQ((*other)[i].at("label"), all[i].at("label"));
      for (const char* label : {"good", "bad", "neither"}) {
        EXPECT_NEAR((*other)[i].at("probabilities").at(label).get<double>(),
                    all[i].at("probabilities").at(label).get<double>(), 3e-6);
      }
    }
    EXPECT_EQ(direct[i].at("text"), texts[i]);
  }
  const Answer evaluated = predict(
      fmt::format("--evaluate --json --input {} --output {} 2>/dev/null", file, path("out.jsonl")),
      "task");
  EXPECT_NEAR(Json::parse(evaluated.output).at("accuracy"), static_cast<double>(good) / 20, 1e-9);
  std::istringstream written(read_file(folder_ / "out.jsonl"));
  std::size_t lines = 0;
  for (std::string line; std::getline(written, line); ++lines) {
    EXPECT_EQ(Json::parse(line), all[lines]);
  }
  EXPECT_EQ(lines, 20u);
}

TEST_F(Inference, PredictsOfAHuggingFaceFolder) {
  write_task_checkpoint(folder_ / "task", tokenizer_, TaskKind::classification, {"x", "y"});
  write_task_checkpoint(folder_ / "hf", tokenizer_, TaskKind::classification, {"x", "y"}, false);
  write_text(folder_ / "pairs.csv", "a,b,c\nw5,w7,x\nw9 w11,w13,y\n");
  const std::string options =
      "--text a --text-pair b --label c --evaluate --input " + path("pairs.csv") + " 2>/dev/null";
  const std::vector<Json> ours = records(predict(options, "task"));
  EXPECT_EQ(ours.size(), 2u);
  EXPECT_EQ(records(predict(options, "hf")), ours);
  const std::vector<Json> direct = records(predict("--json --pairs w5 w7 'w9 w11' w13", "hf"));
  ASSERT_EQ(direct.size(), 2u);
  EXPECT_EQ(direct[1].at("probabilities"), ours[1].at("probabilities"));
  expect_refused(predict("--pairs w5 w7 w9", "hf"), "two for each pair");
}

TEST_F(Inference, PredictsNumbersAndTagsAndAnswers) {
  write_task_checkpoint(folder_ / "number", tokenizer_, TaskKind::regression, {});
  const std::vector<Json> numbers = records(predict("--json 'w5 w7' w9", "number"));
  ASSERT_EQ(numbers.size(), 2u);
  EXPECT_NE(numbers[0].at("value"), numbers[1].at("value"));

  write_task_checkpoint(folder_ / "tags", tokenizer_, TaskKind::token_classification,
                        {"O", "B-PER", "I-PER"});
  write_text(folder_ / "words.conll", "w5 O\nw7c10 O\n. O\n\nw9 O\n");
  const std::vector<Json> tagged =
      records(predict("--input " + path("words.conll") + " 2>/dev/null", "tags"));
  const std::vector<Json> direct = records(predict("--json 'w5 w7c10.' w9", "tags"));
  ASSERT_EQ(tagged.size(), 2u);
  ASSERT_EQ(direct.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    for (const char* key : {"words", "tags", "probabilities", "entities"}) {
      EXPECT_EQ(direct[i].at(key), tagged[i].at(key)) << key;
    }
  }
  EXPECT_EQ(tagged[0].at("words"), (std::vector<std::string>{"w5", "w7c10", "."}));

  write_task_checkpoint(folder_ / "qa", tokenizer_, TaskKind::question_answering, {});
  std::string context = "w5 w7";
  for (int i = 0; i < 30; ++i) context += fmt::format(" w{}", 5 + 2 * (i % 25));
  write_text(
      folder_ / "squad.json",
      Json{{"data",
            {{{"paragraphs",
               {{{"context", context},
                 {"qas", {{{"id", "q"}, {"question", "w9 w11"}, {"answers", Json::array()}}}}}}}}}}}
          .dump());
  const std::vector<Json> answered =
      records(predict("--input " + path("squad.json") + " 2>/dev/null", "qa"));
  const std::vector<Json> asked =
      records(predict(fmt::format("--json --question 'w9 w11' --context '{}'", context), "qa"));
  ASSERT_EQ(answered.size(), 1u);
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].at("n_best"), answered[0].at("n_best"));
  EXPECT_EQ(asked[0].at("text"), answered[0].at("text"));
  EXPECT_FALSE(asked[0].contains("id"));
  expect_refused(predict("w5", "qa"), "--question");
  expect_refused(predict("--question w5 --context w7", "number"), "regression");
}

TEST_F(Inference, WhatIsNoWordIsSaid) {
  write_task_checkpoint(folder_ / "tags", tokenizer_, TaskKind::token_classification, {"O", "B-X"});
  Backend backend = make_backend(Precision::fp32, 1);
  const Capacity capacity = inference_capacity(*backend.device, 32, 64);
  InferenceSession session(folder_ / "tags", std::move(backend), capacity);
  TaskPredictor predictor(session, read_task_options(session));
  EXPECT_EQ(predictor.words({{"w5", "w7"}}).size(), 1u);
  const auto error_of = [&](const std::string& word) -> std::string {
    try {
      predictor.words({{"w5", word}});
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(error_of("w5 w7"), "'w5 w7' is no word: it is empty or has blanks");
  EXPECT_EQ(error_of("-DOCSTART-"),
            "'-DOCSTART-' is no word: files of words mark the beginning of a document with it");
}

TEST_F(Inference, PredictRefusesOtherModels) {
  expect_refused(predict("w5", "model"), "pre-trained model");
  write_random_model(folder_ / "bare", tokenizer_,
                     std::make_unique<BertModel>(random_config(kVocabSize), /*with_pooler=*/true));
  expect_refused(predict("w5", "bare"), "without a head");
  expect_refused(fill_mask("'[MASK]'", "bare"), "without a head");
  write_task_checkpoint(folder_ / "task", tokenizer_, TaskKind::classification, {"x", "y"});
  expect_refused(fill_mask("'[MASK]'", "task"), "a model for classification");
  expect_refused(predict("--input " + path("nothing.tsv"), "task"), "nothing.tsv");
  expect_refused(predict("--input - < /dev/null", "task"), "standard input is empty");
  expect_refused(
      run(fmt::format("printf 'w5\\tx\\nw7\\n' | {} --evaluate --checkpoint {} --input -",
                      BERT_PREDICT, path("task"))),
      "standard input:2: has 1 field");
  expect_refused(predict("--max-length 41 w5", "task"), "41 tokens");
  write_task_checkpoint(folder_ / "other", tokenizer_, TaskKind::classification, {"x", "y", "z"});
  fs::copy_file(folder_ / "other" / "task.json", folder_ / "task" / "task.json",
                fs::copy_options::overwrite_existing);
  expect_refused(predict("w5", "task"), "classification with 3 outputs");
  write_text(folder_ / "task" / "task.json", "{\"kind\": ");
  expect_refused(predict("w5", "task"), "task.json");
}

}  // namespace
}  // namespace bert
