/** The player's words in the languages of the pack's locales. */

const TEXTS = {
  en: {
    chunk: "chunk {done} of {chunks}",
    speed: "{fps} fps, {factor}x real time",
    left: "{time} left",
    starting: "starting",
    finished: "finished",
    stopped: "stopped after chunk {done} of {chunks}",
    live: "Live",
    live_hint: "Go to the newest finished chunk",
    muted_hint: "The browser allows sound after a click on the page",
    gone: "No longer there: the frames were deleted",
    identity: "identity",
    identity_hint: "Distance of the chunk's latents to the portrait's: rising means that the face drifts",
    sharpness: "sharpness",
    sharpness_hint: "Sharpness relative to the portrait: falling means that the picture blurs",
    color: "colour",
    color_hint: "Colour distance (Delta E) to the portrait before correction",
  },
  zh: {
    chunk: "第 {done} 段，共 {chunks} 段",
    speed: "{fps} fps，实时速度的 {factor} 倍",
    left: "剩余 {time}",
    starting: "正在开始",
    finished: "已完成",
    stopped: "在第 {done} 段后停止，共 {chunks} 段",
    live: "直播",
    live_hint: "跳到最新完成的分段",
    muted_hint: "在页面上点击后浏览器才允许播放声音",
    gone: "已不存在：帧已被删除",
    identity: "身份",
    identity_hint: "分段潜变量与肖像的距离：上升表示面部在漂移",
    sharpness: "清晰度",
    sharpness_hint: "相对于肖像的清晰度：下降表示画面变模糊",
    color: "颜色",
    color_hint: "校正前与肖像的颜色距离 (Delta E)",
  },
  ja: {
    chunk: "チャンク {done} / {chunks}",
    speed: "{fps} fps、実時間の {factor} 倍",
    left: "残り {time}",
    starting: "開始中",
    finished: "完了",
    stopped: "チャンク {done} / {chunks} の後で停止",
    live: "ライブ",
    live_hint: "最新の完成チャンクへ移動",
    muted_hint: "ページをクリックするとブラウザーが音声を許可します",
    gone: "もうありません：フレームは削除されました",
    identity: "同一性",
    identity_hint: "チャンクの潜在表現と肖像との距離：上昇は顔のずれを意味します",
    sharpness: "鮮明さ",
    sharpness_hint: "肖像に対する鮮明さ：低下はぼけを意味します",
    color: "色",
    color_hint: "補正前の肖像との色距離 (Delta E)",
  },
  ko: {
    chunk: "청크 {done} / {chunks}",
    speed: "{fps} fps, 실시간의 {factor}배",
    left: "{time} 남음",
    starting: "시작하는 중",
    finished: "완료",
    stopped: "청크 {done} / {chunks} 이후 중지됨",
    live: "라이브",
    live_hint: "가장 최근에 완성된 청크로 이동",
    muted_hint: "페이지를 클릭하면 브라우저가 소리를 허용합니다",
    gone: "더 이상 없음: 프레임이 삭제되었습니다",
    identity: "동일성",
    identity_hint: "청크 잠재값과 초상화의 거리: 올라가면 얼굴이 변합니다",
    sharpness: "선명도",
    sharpness_hint: "초상화 대비 선명도: 내려가면 화면이 흐려집니다",
    color: "색상",
    color_hint: "보정 전 초상화와의 색 거리 (Delta E)",
  },
  fr: {
    chunk: "segment {done} sur {chunks}",
    speed: "{fps} i/s, {factor}x le temps réel",
    left: "reste {time}",
    starting: "démarrage",
    finished: "terminé",
    stopped: "arrêté après le segment {done} sur {chunks}",
    live: "Direct",
    live_hint: "Aller au dernier segment terminé",
    muted_hint: "Le navigateur autorise le son après un clic sur la page",
    gone: "N'existe plus : les images ont été supprimées",
    identity: "identité",
    identity_hint: "Distance entre les latents du segment et ceux du portrait : si elle monte, le visage dérive",
    sharpness: "netteté",
    sharpness_hint: "Netteté par rapport au portrait : si elle baisse, l'image devient floue",
    color: "couleur",
    color_hint: "Écart de couleur (Delta E) avec le portrait avant correction",
  },
  es: {
    chunk: "segmento {done} de {chunks}",
    speed: "{fps} fps, {factor}x el tiempo real",
    left: "quedan {time}",
    starting: "empezando",
    finished: "terminado",
    stopped: "detenido tras el segmento {done} de {chunks}",
    live: "En vivo",
    live_hint: "Ir al último segmento terminado",
    muted_hint: "El navegador permite el sonido tras un clic en la página",
    gone: "Ya no existe: los fotogramas se borraron",
    identity: "identidad",
    identity_hint: "Distancia de los latentes del segmento a los del retrato: si sube, la cara se desvía",
    sharpness: "nitidez",
    sharpness_hint: "Nitidez respecto al retrato: si baja, la imagen se emborrona",
    color: "color",
    color_hint: "Distancia de color (Delta E) al retrato antes de la corrección",
  },
  ru: {
    chunk: "фрагмент {done} из {chunks}",
    speed: "{fps} к/с, {factor}x реального времени",
    left: "осталось {time}",
    starting: "запуск",
    finished: "готово",
    stopped: "остановлено после фрагмента {done} из {chunks}",
    live: "Эфир",
    live_hint: "Перейти к последнему готовому фрагменту",
    muted_hint: "Браузер разрешит звук после щелчка по странице",
    gone: "Больше нет: кадры удалены",
    identity: "сходство",
    identity_hint: "Расстояние латентов фрагмента до портрета: рост означает, что лицо уходит",
    sharpness: "резкость",
    sharpness_hint: "Резкость относительно портрета: падение означает размытие",
    color: "цвет",
    color_hint: "Цветовое расстояние (Delta E) до портрета до коррекции",
  },
};

let language = "en";

/** Choose the language, as ComfyUI's setting Comfy.Locale names it; English where there is no translation. */
export function useLanguage(locale) {
  language = [locale, String(locale).split("-")[0]].find((name) => name in TEXTS) ?? "en";
}

/** The text `key` with `{name}` replaced by `values.name`. */
export function text(key, values = {}) {
  return TEXTS[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Seconds as m:ss or h:mm:ss. */
export function clock(seconds) {
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, i) => (i ? String(part).padStart(2, "0") : part)).join(":");
}
