// A simulation: trials over threads, each trial forward and, where asked for, back.
#pragma once

#include <cstdint>

#include "chain/job.hpp"

namespace varprop {

// T is float or double. A job that its host stopped leaves its results half done. Throws what the
// host throws.
template <class T>
void simulate(const Job&, Host&, const Results&);

// Bytes of working memory that simulate allocates.
template <class T>
std::int64_t working_memory(const Job&);

}  // namespace varprop
