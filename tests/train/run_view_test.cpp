// The view's text, from states to lines.
#include "train/logging/run_view.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace bert {
namespace {

const double kNan = std::nan("");

ProgressState some_state() {
  ProgressState state;
  state.step = 1200;
  state.max_steps = 4000;
  state.loss = 4.512;
  state.learning_rate = 9.8e-5;
  state.grad_norm = 0.8312;
  state.tokens_per_second = 8812;
  state.eta_seconds = 245;
  state.elapsed_seconds = 105;
  return state;
}

TEST(ProgressFormat, Lines) {
  ProgressState state = some_state();
  EXPECT_EQ(format_progress_line(state),
            "step 1200/4000 (30.0%)  loss 4.512  ppl 91.1  lr 9.80e-05  8.8k tokens/s  ETA 4m05s");
  EXPECT_EQ(
      format_progress_bar(state, 100),
      "[========>                  ] 1200/4000  loss 4.512  ppl 91.1  lr 9.80e-05  8.8k tokens/s  "
      "ETA 4m05s");
  // Too narrow for a bar, then for everything.
  EXPECT_EQ(format_progress_bar(state, 80),
            "1200/4000  loss 4.512  ppl 91.1  lr 9.80e-05  8.8k tokens/s  ETA 4m05s");
  EXPECT_EQ(format_progress_bar(state, 12), "1200/4000  l");
  for (int columns = 0; columns < 200; ++columns) {
    EXPECT_LE(format_progress_bar(state, columns).size(), static_cast<std::size_t>(columns));
  }
  state.eta_seconds.reset();
  state.step = 4000;
  EXPECT_EQ(format_progress_bar(state, 200),
            "[========================================] 4000/4000  loss 4.512  ppl 91.1  lr "
            "9.80e-05  8.8k tokens/s");
}

RunView some_view() {
  RunView view;
  view.progress = some_state();
  view.progress.mfu = 0.4123;
  view.mean_loss = std::log(91.0);
  for (int step = 1; step <= 1200; ++step) view.losses.add(step, step <= 600 ? 9.0 : 5.0);
  view.validation = ValidationState{.step = 1000,
                                    .loss = 4.61,
                                    .standard_error = 0.0123,
                                    .accuracy = 0.2512,
                                    .best_loss = 4.6,
                                    .best_step = 800};
  view.words = {{"the cat sat on the ",
                 "mat",
                 " and looked",
                 {{"dog", 0.5}, {"chair", 0.08}, {"sofa", 0.091}, {"mat", 0.87}}},
                {"a", "b", "", {}}};
  return view;
}

TEST(RunView, AllThereIs) {
  std::string high, low;
  for (int i = 0; i < 40; ++i) high += "\u2588", low += "\u2581";
  const std::vector<std::string> expected = {
      "step 1200/4000  30.0 %  [============>                           ]  1m45s gone, 4m05s left",
      "loss 4.512  mean 4.511  ppl 91.0  lr 9.80e-05  grad norm 0.831  8.8k tokens/s  MFU 41.2 %",
      "9.00 " + high + low + " 5.00",
      "validation at 1000:  loss 4.6100 \u00b1 0.0123  ppl 100  accuracy 25.1 %  best 4.6000 at "
      "800",
      "the cat sat on the [mat] and looked                                 chair 8% \u2192 sofa 9% "
      "\u2192 mat 87%",
      "a[b]"};
  std::vector<std::string> lines =
      format_run_view(some_view(), 96, 20, {.unicode = true, .colour = false});
  ASSERT_EQ(lines.size(), expected.size());
  EXPECT_EQ(display_columns(lines[4]), 96);
  for (std::string& line : lines) line.erase(line.find_last_not_of(' ') + 1);
  for (std::size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i], expected[i]);
}

TEST(RunView, WithoutWhatIsNotKnown) {
  RunView view;
  view.progress = some_state();
  view.progress.eta_seconds.reset();
  const auto lines = format_run_view(view, 96, 20, {.unicode = false, .colour = false});
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_TRUE(lines[0].ends_with("1m45s gone")) << lines[0];
  EXPECT_TRUE(lines[1].ends_with("tokens/s")) << lines[1];  // no MFU
}

// Whatever the size, nothing is too wide or too high, and no number is cut while a line has room.
TEST(RunView, FitsEverySize) {
  RunView view = some_view();
  view.words.push_back({"\u732b\u304c\u3044\u308b ",
                        "\u732b",
                        " e\u0301t\u00e9",
                        {{"\u5bb6\u65cf\u5bb6\u65cf\u5bb6\u65cf", 0.5}}});
  for (const bool unicode : {false, true}) {
    for (const bool colour : {false, true}) {
      for (int columns = 0; columns <= 130; ++columns) {
        for (int rows = 0; rows <= 14; ++rows) {
          const auto lines = format_run_view(view, columns, rows, {unicode, colour});
          ASSERT_LE(lines.size(), static_cast<std::size_t>(rows));
          if (columns > 0 && rows > 0) {
            ASSERT_FALSE(lines.empty());
          }
          for (const std::string& line : lines) {
            ASSERT_LE(display_columns(line), columns) << line;
            if (!unicode) {
              ASSERT_TRUE(std::all_of(line.begin(), line.end(), [](char c) { return c > 0; }));
            }
            if (!colour) {
              ASSERT_EQ(line.find('\x1b'), std::string::npos);
            }
          }
        }
      }
    }
  }
  // The examples go first, then the curve, then the validation.
  const TerminalStyle style{.unicode = true, .colour = false};
  EXPECT_TRUE(format_run_view(view, 96, 4, style)[3].starts_with("validation"));
  EXPECT_TRUE(format_run_view(view, 96, 3, style)[2].starts_with("validation"));
  EXPECT_TRUE(format_run_view(view, 96, 2, style)[1].starts_with("loss"));
  EXPECT_EQ(format_run_view(view, 96, 1, style)[0], format_progress_bar(view.progress, 96));
  const auto narrow = format_run_view(view, 20, 6, style);
  EXPECT_EQ(narrow[0], "step 1200/4000");
  EXPECT_EQ(narrow[1], "30.0 %");
  EXPECT_EQ(narrow[2], "1m45s gone, 4m05s l\u2026");
  EXPECT_EQ(narrow[3], "loss 4.512");
}

TEST(RunView, ColoursAreClosedAndSayWhatIsGood) {
  const auto lines = format_run_view(some_view(), 96, 20, {.unicode = true, .colour = true});
  EXPECT_NE(lines[4].find("\x1b[32mmat 87%\x1b[0m"), std::string::npos) << lines[4];
  EXPECT_NE(lines[4].find("\x1b[2msofa 9%\x1b[0m"), std::string::npos) << lines[4];
  RunView view = some_view();
  view.progress.loss = kNan;
  EXPECT_NE(format_run_view(view, 96, 20, {})[1].find("\x1b[31mloss nan\x1b[0m"),
            std::string::npos);
}

// Text of a corpus can do nothing to the terminal.
TEST(TerminalText, ControlCharactersAndBadBytesAreHarmless) {
  EXPECT_EQ(printable("a\x1b[2Jb\r\n\tc\x7f\u009b\u2028\u202e|", true), "a [2Jb   c    |");
  EXPECT_EQ(printable("\xff\u00e9\u732b", true), "?\u00e9\u732b");
  EXPECT_EQ(printable("\xff\u00e9\u732b", false), "???");
}

TEST(TerminalText, Columns) {
  EXPECT_EQ(display_columns("abc"), 3);
  EXPECT_EQ(display_columns("\u732b\u00e9e\u0301\U0001F600"), 6);
  EXPECT_EQ(display_columns("\x1b[1mab\x1b[0m"), 2);
  EXPECT_EQ(cut_end("abcdef", 6, true), "abcdef");
  EXPECT_EQ(cut_end("abcdef", 5, true), "abcd\u2026");
  EXPECT_EQ(cut_end("abcdef", 5, false), "ab...");
  EXPECT_EQ(cut_end("abcdef", 2, false), "..");
  EXPECT_EQ(cut_end("\u732b\u732b\u732b", 4, true), "\u732b\u2026");  // half of one fits nowhere
  EXPECT_EQ(cut_begin("abcdef", 5, true), "\u2026cdef");
  EXPECT_EQ(cut_begin("\u732b\u732b\u732b", 4, true), "\u2026\u732b");
  EXPECT_EQ(cut_begin("abcdef", 6, true), "abcdef");
}

TEST(Sparkline, HeightsAreThoseOfTheMeans) {
  EXPECT_EQ(sparkline({0, 1, 2, 3, 4, 5, 6, 7}, 8, false), "_.:-=+*#");
  EXPECT_EQ(sparkline({0, 1, 2, 3, 4, 5, 6, 7}, 8, true),
            "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588");
  EXPECT_EQ(sparkline({0, 0, 7, 7, 0, 14}, 3, false), "_##");
  EXPECT_EQ(sparkline({3, 3}, 10, false), "__");
  EXPECT_EQ(sparkline({0, kNan, 7}, 3, false), "_!#");
  EXPECT_EQ(sparkline({}, 3, false), "");
  EXPECT_EQ(sparkline({1, 2}, 0, false), "");
}

TEST(LossHistory, KeepsTheMeansOfLongRuns) {
  LossHistory history;
  for (int step = 1; step <= 10000; ++step) history.add(step, step);
  const std::vector<double> means = history.means();
  ASSERT_EQ(means.size(), 313u);  // stretches of 32 steps
  EXPECT_EQ(means[0], 16.5);
  EXPECT_EQ(means[1], 48.5);
  EXPECT_EQ(means.back(), (9985 + 10000) / 2.0);
  LossHistory resumed;
  resumed.add(1001, 2.0);  // nothing is known of those before
  resumed.add(1002, kNan);
  ASSERT_EQ(resumed.means().size(), 1u);
  EXPECT_TRUE(std::isnan(resumed.means()[0]));  // both in one stretch
}

TEST(MovingMean, ForgetsSlowly) {
  MovingMean mean;
  EXPECT_FALSE(mean.value());
  mean.add(4.0);
  mean.add(kNan);
  EXPECT_EQ(mean.value(), 4.0);
  mean.add(2.0);
  EXPECT_NEAR(*mean.value(), (0.98 * 4.0 + 2.0) / 1.98, 1e-12);
  for (int i = 0; i < 1000; ++i) mean.add(1.0);
  EXPECT_NEAR(*mean.value(), 1.0, 1e-6);
}

void expect_word(const std::string& original, const std::string& predicted,
                 const std::string& before, const std::string& word, const std::string& after,
                 const std::string& guess, double share) {
  SCOPED_TRACE(predicted);
  const auto found = first_masked_word(original, predicted);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->before, before);
  EXPECT_EQ(found->word, word);
  EXPECT_EQ(found->after, after);
  ASSERT_EQ(found->predictions.size(), 1u);
  EXPECT_EQ(found->predictions[0].word, guess);
  EXPECT_NEAR(found->predictions[0].share, share, 1e-12);
}

TEST(FollowedWord, IsTheFirstThatWasPredicted) {
  expect_word("a cat on the mat.", "a cat on the mat[97.6%].", "a cat on the ", "mat", ".", "mat",
              0.976);
  expect_word("the cat sat", "dog[5.0%] cat was[50.0%]", "", "the", " cat sat", "dog", 0.05);
  // Several pieces of a word.
  expect_word("he walks on", "he walk[50.0%] ##ing[20.0%] in[1.0%]", "he ", "walks", " on",
              "walking", 0.1);
  // A piece in the middle of a word.
  expect_word("he walking on", "he walk ##ed[50.0%] on", "he walk", "ing", " on", "ed", 0.5);
  expect_word("is [1] it so", "is [1] that[30.0%] so", "is [1] ", "it", " so", "that", 0.3);
  // A mark that ends a sentence, in the text without a space before it.
  expect_word("he walks. on", "he walks .[70.0%] on", "he walks", ".", " on", ".", 0.7);
  expect_word("a [ b", "a [[9.0%] b", "a ", "[", " b", "[", 0.09);
  EXPECT_FALSE(first_masked_word("nothing here", "nothing here"));
  EXPECT_FALSE(first_masked_word("a [b] c%] d", "a [b] c%] d"));
  expect_word("short", "a much longer text[1.0%]", "short", "", "", "text", 0.01);
}

}  // namespace
}  // namespace bert
