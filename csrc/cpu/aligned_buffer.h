// Numbers on a 64-byte boundary, uninitialised unless made by zeros().
#pragma once

#include <algorithm>
#include <new>
#include <utility>

namespace vsae {

template <class T>
class AlignedArray {
   public:
    explicit AlignedArray(long n)
        : data_(static_cast<T*>(::operator new(static_cast<std::size_t>(std::max(n, 1L)) * sizeof(T), kAlignment))) {}
    ~AlignedArray() { ::operator delete(data_, kAlignment); }
    AlignedArray(AlignedArray&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
    AlignedArray& operator=(AlignedArray&& other) noexcept {
        std::swap(data_, other.data_);
        return *this;
    }

    T* data() { return data_; }
    const T* data() const { return data_; }

    static AlignedArray zeros(long n) {
        AlignedArray array(n);
        std::fill_n(array.data(), std::max(n, 1L), T{});
        return array;
    }

   private:
    static constexpr std::align_val_t kAlignment{64};
    T* data_;
};

using AlignedBuffer = AlignedArray<float>;

}  // namespace vsae
