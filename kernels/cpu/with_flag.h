// A bool as a template argument.
#pragma once

#include <type_traits>

namespace bert::cpu {

// Calls body with the flag as a compile-time constant: body(std::bool_constant<...>()).
template <typename Body>
inline void with_flag(bool flag, Body&& body) {
  if (flag) {
    body(std::true_type());
  } else {
    body(std::false_type());
  }
}

}  // namespace bert::cpu
