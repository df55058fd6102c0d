// Which frame is shown, and how time passes.

const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4, 8];
const ASSUMED_FPS = 10; // where a dataset does not say how fast it was recorded

class Player {
  constructor(onFrame, onState) {
    this.onFrame = onFrame;
    this.onState = onState;
    this.fps = DATA.facts.fps || ASSUMED_FPS;
    this.speed = 1;
    this.frames = 1;
    this.frame = 0;
    this.playing = false;
  }

  load(frames, frame = 0) {
    this.frames = frames;
    this.seek(frame);
  }

  seek(frame) {
    this.frame = Math.min(Math.max(Math.round(frame) || 0, 0), this.frames - 1);
    this.origin = null; // playing goes on from here
    this.onFrame(this.frame);
  }

  step(frames) {
    this.pause();
    this.seek(this.frame + frames);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (this.frames < 2) return;
    if (this.frame === this.frames - 1) this.seek(0);
    this.playing = true;
    this.origin = null;
    this.onState();
    requestAnimationFrame((now) => this.tick(now));
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.onState();
  }

  setSpeed(speed) {
    this.speed = speed;
    this.origin = null;
    this.onState();
  }

  // Frames follow the clock, not the screen: a slow machine leaves some out and keeps time.
  tick(now) {
    if (!this.playing) return;
    this.origin = this.origin || { now, frame: this.frame };
    const passed = ((now - this.origin.now) / 1000) * this.fps * this.speed;
    const frame = Math.min(this.origin.frame + Math.floor(passed), this.frames - 1);
    if (frame !== this.frame) {
      this.frame = frame;
      this.onFrame(frame);
    }
    if (frame === this.frames - 1) this.pause();
    else requestAnimationFrame((next) => this.tick(next));
  }
}
