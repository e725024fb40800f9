// A sum that keeps what rounding takes away (Neumaier 1974): log-weights are small differences of large sums.
#pragma once

namespace vsae {

struct Sum {
    float total = 0;
    float lost = 0;

    __device__ void add(float value) {
        const float next = total + value;
        const float part = next - total;
        lost += (total - (next - part)) + (value - part);
        total = next;
    }
    __device__ void add(const Sum& other) {
        add(other.total);
        lost += other.lost;
    }
    __device__ float relative_to(float reference) const { return (total - reference) + lost; }
};

}  // namespace vsae
