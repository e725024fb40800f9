// Floats on a 64-byte boundary, uninitialised unless made by zeros().
#pragma once

#include <algorithm>
#include <new>
#include <utility>

namespace vsae {

class AlignedBuffer {
   public:
    explicit AlignedBuffer(long floats)
        : data_(static_cast<float*>(
              ::operator new(static_cast<std::size_t>(std::max(floats, 1L)) * sizeof(float), kAlignment))) {}
    ~AlignedBuffer() { ::operator delete(data_, kAlignment); }
    AlignedBuffer(AlignedBuffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
    AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
        std::swap(data_, other.data_);
        return *this;
    }

    float* data() { return data_; }
    const float* data() const { return data_; }

    static AlignedBuffer zeros(long floats) {
        AlignedBuffer buffer(floats);
        std::fill_n(buffer.data(), std::max(floats, 1L), 0.0f);
        return buffer;
    }

   private:
    static constexpr std::align_val_t kAlignment{64};
    float* data_;
};

}  // namespace vsae
