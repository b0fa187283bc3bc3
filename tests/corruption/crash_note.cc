#include "tests/corruption/crash_note.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>

namespace larder::corruption {
namespace {

constexpr std::array kSignals = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE};

// A handler reaches nothing but globals. They are written before the signal is raised.
std::array<char, 256> note;
std::size_t note_bytes = 0;
std::array<struct sigaction, kSignals.size()> previous;

void on_crash(int signal) {
  constexpr char kBefore[] = "\ncrashed with: ";
  static_cast<void>(!::write(STDERR_FILENO, kBefore, sizeof(kBefore) - 1));
  static_cast<void>(!::write(STDERR_FILENO, note.data(), note_bytes));
  static_cast<void>(!::write(STDERR_FILENO, "\n", 1));
  for (std::size_t i = 0; i < kSignals.size(); ++i) {  // A sanitizer's report comes next.
    if (kSignals[i] == signal) ::sigaction(signal, &previous[i], nullptr);
  }
  ::raise(signal);
}

bool install() {
  struct sigaction action{};
  action.sa_handler = on_crash;  // NOLINT(bugprone-signal-handler): write, sigaction, raise alone.
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], &action, &previous[i]);
  }
  return true;
}

}  // namespace

void set_crash_note(std::string_view what) {
  static const bool is_installed = install();
  static_cast<void>(is_installed);
  note_bytes = std::min(what.size(), note.size());
  std::copy_n(what.begin(), note_bytes, note.begin());
}

}  // namespace larder::corruption
