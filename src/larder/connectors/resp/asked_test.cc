#include "larder/connectors/resp/asked.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <future>
#include <memory>
#include <utility>

namespace larder::resp {
namespace {

class AskedTest : public ::testing::Test {
 protected:
  AskedTest() {
    auto made = EventFd::create();
    EXPECT_TRUE(made);
    answered_ = std::make_shared<EventFd>(std::move(*made));
  }
  Asked<int> asked(std::function<int()> find_out) {
    return {"test-asked", std::move(find_out), answered_, clock_};
  }
  /// The answer, after the signal if there was none yet.
  int answer_of(Asked<int>& question) {
    auto answer = question.ask();
    while (answer && *answer == nullptr) {
      pollfd entry{answered_->get(), POLLIN, 0};
      EXPECT_EQ(::poll(&entry, 1, -1), 1);
      answered_->drain();
      answer = question.ask();
    }
    EXPECT_TRUE(answer);
    return answer ? **answer : -1;
  }

  ManualClock clock_;
  std::shared_ptr<EventFd> answered_;
};

TEST_F(AskedTest, AnAnswerHoldsForHalfASecondAndThenTheQuestionIsPutAgain) {
  const auto times = std::make_shared<std::atomic<int>>(0);
  Asked<int> question = asked([times] { return ++*times; });
  EXPECT_EQ(answer_of(question), 1);
  clock_.advance_ns(499'999'999);
  EXPECT_EQ(answer_of(question), 1);
  EXPECT_EQ(*times, 1);
  clock_.advance_ns(1);
  EXPECT_EQ(answer_of(question), 2) << "a name may lead elsewhere by now";
}

TEST_F(AskedTest, SaysSinceWhenAnAnswerIsWaitedFor) {
  const auto gate = std::make_shared<std::promise<void>>();
  Asked<int> question = asked([opened = gate->get_future().share()] {
    opened.wait();
    return 7;
  });
  EXPECT_EQ(question.asked_at_ns(), kNever);
  const std::uint64_t asked_at_ns = clock_.now_ns();
  ASSERT_TRUE(question.ask());
  clock_.advance_ns(1'000);
  const auto answer = question.ask();
  ASSERT_TRUE(answer);
  EXPECT_EQ(*answer, nullptr);
  EXPECT_EQ(question.asked_at_ns(), asked_at_ns);
  gate->set_value();
  EXPECT_EQ(answer_of(question), 7);
  EXPECT_EQ(question.asked_at_ns(), kNever);
}

TEST_F(AskedTest, AQuestionThatNeverEndsIsGivenUpWithIt) {
  const auto gate = std::make_shared<std::promise<void>>();
  const auto begun = std::make_shared<std::promise<void>>();
  const auto ended = std::make_shared<std::promise<void>>();
  {
    Asked<int> question = asked([opened = gate->get_future().share(), begun, ended] {
      begun->set_value();
      opened.wait();
      ended->set_value();
      return 7;
    });
    ASSERT_TRUE(question.ask());
    begun->get_future().wait();
  }
  gate->set_value();
  ended->get_future().wait();
}

}  // namespace
}  // namespace larder::resp
