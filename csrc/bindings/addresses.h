// Addresses of tensors as Python hands them over.
#pragma once

#include <cstdint>
#include <vector>

namespace vsae {

template <class T>
T* at(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

template <class T>
std::vector<T*> pointers(const std::vector<std::uintptr_t>& addresses) {
    std::vector<T*> result;
    for (const std::uintptr_t address : addresses) result.push_back(at<T>(address));
    return result;
}

}  // namespace vsae
