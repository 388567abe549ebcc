#include "runtime/all_reducer.h"

#include "runtime/error.h"

namespace bert {
namespace {

class HostAllReducer final : public AllReducer {
 public:
  HostAllReducer(Communicator& communicator, const Tensor& whole)
      : communicator_(communicator), whole_(whole) {}
  std::string name() const override { return communicator_.name(); }
  void start(const Tensor& piece) override {
    const auto* const begin = static_cast<const char*>(whole_.raw());
    const auto* const at = static_cast<const char*>(piece.raw());
    if (at < begin || at >= begin + whole_.bytes()) communicator_.all_reduce_sum(piece);
  }
  void finish() override { communicator_.all_reduce_sum(whole_); }

 private:
  Communicator& communicator_;
  Tensor whole_;
};

}  // namespace

std::unique_ptr<AllReducer> make_host_all_reducer(Communicator& communicator, const Tensor& whole) {
  return std::make_unique<HostAllReducer>(communicator, whole);
}

}  // namespace bert
